"""A whole artifact: what the store lacks of it is fetched, each blob once, a few at a time."""

from __future__ import annotations

import hashlib
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cortexd.artifacts.download import Remote, TransferError, download, failure, read_small
from cortexd.artifacts.store import MANIFEST, Store, StoreError, parse_manifest
from cortexd.protocol.manifest import Manifest

PARALLEL = 4


@dataclass(slots=True)
class Progress:
    """How far a fetch is; read from any thread. ``bytes_total`` is 0 until the manifest is there."""

    bytes_total: int = 0
    bytes_done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, count: int) -> None:
        """``count`` more bytes are there (or fewer, when some had to go)."""
        with self._lock:
            self.bytes_done += count


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    sha256: str
    size: int


def fetch(
    store: Store,
    remote: Remote,
    manifest_sha256: str | None = None,
    progress: Progress | None = None,
    stopped: threading.Event | None = None,
    parallel: int = PARALLEL,
) -> Path:
    """The artifact's folder in the store, fetched from the folder ``remote`` where needed. Blocks.

    With ``manifest_sha256`` nothing else is taken. ``stopped`` ends it early. Raises TransferError.
    """
    stopped = stopped or threading.Event()
    progress = progress or Progress()
    if manifest_sha256 is not None and store.complete(manifest_sha256):
        return store.folder(manifest_sha256)
    try:
        store.prepare()
        data = read_small(remote, MANIFEST, stopped)
        found = hashlib.sha256(data).hexdigest()
        if manifest_sha256 not in (None, found):
            raise TransferError(f"{remote.base}/{MANIFEST}: has sha256 {found}, wanted is {manifest_sha256}")
        wanted = _wanted(parse_manifest(data))
        progress.bytes_total = sum(w.size for w in wanted)
        _fetch_all(store, remote, wanted, progress, stopped, parallel)
        return store.assemble(data)
    except StoreError as e:
        raise TransferError(f"{remote.base}: {e}") from e
    except OSError as e:
        raise TransferError(f"{e.filename or store.root}: {e.strerror or e}") from e


def _wanted(manifest: Manifest) -> list[_Wanted]:
    """Each content once, the large ones first: so the last ones to end are small."""
    by_digest = {entry.sha256: _Wanted(name, entry.sha256, entry.bytes) for name, entry in manifest.files.items()}
    return sorted(by_digest.values(), key=lambda w: (-w.size, w.sha256))


def _fetch_all(
    store: Store, remote: Remote, wanted: list[_Wanted], progress: Progress, stopped: threading.Event, parallel: int
) -> None:
    todo: queue.SimpleQueue[_Wanted] = queue.SimpleQueue()
    for one in wanted:
        todo.put(one)
    failed: list[TransferError] = []
    # ends the others when one has failed, without ending what the caller may fetch next
    enough = _Either(stopped)

    def work() -> None:
        while not enough.is_set():
            try:
                one = todo.get_nowait()
            except queue.Empty:
                return
            try:
                _fetch_one(store, remote, one, progress, enough)
            except Exception as e:  # noqa: BLE001  (a thread of our own: whatever it is belongs to the caller)
                failed.append(failure(f"{remote.base}/{one.name}", e))
                enough.set()

    # daemons: a process that ends does not wait for a network
    threads = [threading.Thread(target=work, name=f"fetch-{n}", daemon=True) for n in range(min(parallel, len(wanted)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    if stopped.is_set():
        raise TransferError(f"{remote.base}: stopped", passing=True)


def _fetch_one(store: Store, remote: Remote, one: _Wanted, progress: Progress, stopped: threading.Event) -> None:
    with store.locked(one.sha256, stopped.is_set) as held:
        if not held:
            return
        if store.has(one.sha256, one.size):
            progress.add(one.size)
            return
        part = store.partial / one.sha256
        download(remote, one.name, part, one.size, one.sha256, progress.add, stopped)
        store.publish(part, one.sha256)


class _Either(threading.Event):
    """Set when it, or the event that it was made over, is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()
