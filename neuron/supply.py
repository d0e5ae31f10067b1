"""Where a neuron's artifacts come from: its own files, its host's store, and for what that lacks the gateway's host."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from cortexd.artifacts.download import ATTEMPTS, Remote, TransferError
from cortexd.artifacts.fetch import Progress, fetch
from cortexd.artifacts.store import SCHEME, Store
from neuron.artifacts.store import ArtifactError, locate
from neuron.settings import NeuronSettings

# Together about a minute: at the start of a neuron the gateway may still be on its way up.
PATIENT_ATTEMPTS = 16


class Supply:
    """Finds the folder of an artifact. Fetching runs in threads of its own, never on the event loop or a device."""

    def __init__(self, settings: NeuronSettings) -> None:
        self._settings = settings
        self._stopped = threading.Event()

    async def folder(self, artifact: str, progress: Progress, patient: bool = False) -> Path:
        """The folder, once everything is in it. ``patient``: wait for a gateway that does not answer yet.

        Raises ArtifactError (this will not do) or TransferError (``passing`` says whether it may come later).
        """
        settings = self._settings
        if not artifact.startswith(SCHEME) or settings.artifact_store is None:
            return locate(artifact, settings.base)
        digest = artifact.removeprefix(SCHEME)
        found = locate(artifact, settings.base, settings.artifact_store)
        store = Store(settings.artifact_store)
        if store.complete(digest):
            return found
        if settings.artifact_url is None:
            raise ArtifactError(f"{found}: not in the store, and no artifact_url says where to fetch it")
        attempts = PATIENT_ATTEMPTS if patient else ATTEMPTS
        # inside the fleet, so no proxy
        remote = Remote(f"{settings.artifact_url.rstrip('/')}/{digest}", proxies=False, attempts=attempts)
        return await self._in_thread(store, remote, digest, progress)

    def stop(self) -> None:
        """End what is being fetched; what came so far is kept for the next time. Any thread."""
        self._stopped.set()

    async def _in_thread(self, store: Store, remote: Remote, digest: str, progress: Progress) -> Path:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Path] = loop.create_future()

        def settle(folder: Path | None, error: Exception | None) -> None:
            if result.cancelled():
                return
            if folder is not None:
                result.set_result(folder)
            else:
                result.set_exception(error or TransferError("stopped"))

        def work() -> None:
            folder, problem = None, None
            try:
                folder = fetch(store, remote, digest, progress, self._stopped)
            except Exception as e:  # noqa: BLE001  (it belongs to whoever awaits)
                problem = e
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, folder, problem)

        # a daemon: a neuron that stops does not wait for a network
        threading.Thread(target=work, name=f"fetch-{digest[:12]}", daemon=True).start()
        return await result
