"""Which models are on which device of this neuron, and how they come and go. Lives on the event loop's thread.

State of a model: unloaded, loading, loaded, unloading, failed (with the reason; a further load tries again).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from cortexd.artifacts.download import TransferError
from cortexd.artifacts.fetch import Progress
from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.protocol.request import Sampling
from neuron.artifacts.chat_template import ChatTemplate, defaults, eos_ids
from neuron.artifacts.store import Artifact, ArtifactError, open_artifact
from neuron.artifacts.tokenizer import Tokenizer
from neuron.device.jobs import DeviceRefused, LoadedInfo, LoadSpec
from neuron.device.thread import DeviceThread
from neuron.engine.grammar import Vocabulary
from neuron.session.base import SessionError
from neuron.settings import ModelSettings, NeuronSettings
from neuron.supply import Supply

State = Literal["unloaded", "loading", "loaded", "unloading", "failed"]
_log = logging.getLogger("neuron")


@dataclass(frozen=True, slots=True)
class Resident:
    """What a request needs of a loaded model."""

    settings: ModelSettings
    device: DeviceThread
    info: LoadedInfo
    context: int
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class Embedder(Resident):
    """A model of task ``embed``."""

    dimensions: int
    vocab: int


@dataclass(frozen=True, slots=True)
class Chatter(Resident):
    """A model of task ``chat``. ``sampling`` holds the model's defaults."""

    template: ChatTemplate
    eos_token_ids: tuple[int, ...]
    sampling: Sampling
    vocab: int
    _vocabulary: list[Vocabulary] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def vocabulary(self) -> Vocabulary:
        """Its tokens for grammars, made when the first request asks for one. Raises GrammarError. From any thread."""
        with self._lock:
            if not self._vocabulary:
                size = max(self.vocab, self.tokenizer.size)
                self._vocabulary.append(Vocabulary(self.tokenizer.as_json(), size, self.eos_token_ids))
            return self._vocabulary[0]


class Slot:
    """A model of the configuration, with its state. ``lock`` serialises loading and unloading."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.state: State = "unloaded"
        self.error: str | None = None
        self.resident: Resident | None = None
        self.transfer: Progress | None = None  # while the artifact is on its way
        self.lock = asyncio.Lock()


class Residents:
    """All models of the configuration over the device threads, which the caller starts and stops."""

    def __init__(self, settings: NeuronSettings, devices: Mapping[str, DeviceThread]) -> None:
        self._settings = settings
        self._devices = devices
        self._supply = Supply(settings)
        self.slots = {m.id: Slot(m) for m in settings.models}
        self.activating = any(m.pinned for m in settings.models)

    def slot(self, model_id: str) -> Slot:
        """Raises ApiError 404 for an id that is not in the configuration."""
        slot = self.slots.get(model_id)
        if slot is None:
            known = ", ".join(self.slots) or "none"
            message = f"model '{model_id}' is not configured on neuron {self._settings.name}; it has: {known}"
            raise invalid_request(message, code="model_not_found", param="model", status=404)
        return slot

    def resident(self, model_id: str) -> Resident:
        """Raises ApiError: 404 unknown, 503 not loaded."""
        slot = self.slot(model_id)
        if slot.resident is None or slot.state != "loaded":
            raise unavailable(f"model '{model_id}' is {slot.state} here", retry_after=2, code="model_not_loaded")
        return slot.resident

    def chatter(self, model_id: str) -> Chatter:
        """As ``resident``; 400 for a model of another task."""
        resident = self.resident(model_id)
        if not isinstance(resident, Chatter):
            raise _wrong_task(model_id, "embed", "chat")
        return resident

    def embedder(self, model_id: str) -> Embedder:
        """As ``resident``; 400 for a model of another task."""
        resident = self.resident(model_id)
        if not isinstance(resident, Embedder):
            raise _wrong_task(model_id, "chat", "embed")
        return resident

    async def activate(self) -> None:
        """Load what is pinned, one after the other; a failure is kept for ``/health`` and does not stop the rest."""
        for slot in self.slots.values():
            if slot.settings.pinned:
                try:
                    await self.load(slot.settings.id, patient=True)
                except ApiError as e:
                    _log.error("cannot load pinned model %s: %s", slot.settings.id, e.message)
        self.activating = False

    def stop(self) -> None:
        """End what is being fetched."""
        self._supply.stop()

    async def load(self, model_id: str, patient: bool = False) -> Resident:
        """Load, or wait for the load that is under way. Raises ApiError with the reason.

        ``patient``: wait for a gateway that does not answer yet, where the artifact has to come from there.
        """
        slot = self.slot(model_id)
        async with slot.lock:
            if slot.resident is not None:
                return slot.resident
            slot.state, slot.error = "loading", None
            try:
                slot.resident = await self._load(slot.settings, await self._folder(slot, patient))
            except ApiError as e:
                slot.state, slot.error = "failed", e.message
                raise
            except BaseException:
                slot.state, slot.error = "failed", "the load was interrupted"
                raise
            slot.state = "loaded"
            _log.info("loaded %s on %s in %.2f s", model_id, slot.settings.devices[0], slot.resident.info.load_s)
            return slot.resident

    async def _folder(self, slot: Slot, patient: bool) -> Path:
        slot.transfer = Progress()
        try:
            return await self._supply.folder(slot.settings.artifact, slot.transfer, patient)
        except ArtifactError as e:
            raise ApiError(422, "invalid_request_error", "artifact_unusable", str(e)) from e
        except TransferError as e:
            message = f"the artifact of '{slot.settings.id}' cannot be fetched: {e}"
            if e.passing:
                raise unavailable(message, retry_after=10, code="artifact_unavailable") from e
            raise ApiError(422, "api_error", "artifact_unusable", message) from e
        finally:
            slot.transfer = None

    async def _load(self, settings: ModelSettings, folder: Path) -> Resident:
        if len(settings.devices) > 1:
            message = f"model '{settings.id}' wants {len(settings.devices)} devices; this version uses one a model"
            raise ApiError(501, "api_error", "not_implemented", message)
        try:
            artifact = await asyncio.to_thread(open_artifact, folder, settings.manifest_sha256)
            tokenizer = await asyncio.to_thread(Tokenizer, folder)
            task = artifact.manifest.task
            if task != settings.task:
                raise ArtifactError(f"{folder}: the artifact is of task {task}, the configuration says {settings.task}")
            template = ChatTemplate(folder) if task == "chat" else None
            said = defaults(folder)
        except ArtifactError as e:
            raise ApiError(422, "invalid_request_error", "artifact_unusable", str(e)) from e
        context = min(settings.context or artifact.manifest.context, artifact.manifest.context)
        device = self._devices[settings.devices[0]]
        info = await self._on_device(device, settings, artifact, context)
        if template is None:
            manifest = artifact.manifest
            return Embedder(settings, device, info, context, tokenizer, manifest.hidden, manifest.vocab)
        given = settings.sampling
        sampled = said.get("do_sample", True) is not False
        sampling = Sampling(
            temperature=_first(given.temperature, said.get("temperature") if sampled else 0.0),
            top_p=_first(given.top_p, said.get("top_p")),
            top_k=_first(given.top_k, said.get("top_k")),
            min_p=said.get("min_p"),
            repetition_penalty=said.get("repetition_penalty"),
            max_tokens=given.max_tokens,
        )
        ids = eos_ids(said.get("eos_token_id"), artifact.manifest.eos_token_ids)
        return Chatter(settings, device, info, context, tokenizer, template, ids, sampling, artifact.manifest.vocab)

    async def _on_device(
        self, device: DeviceThread, settings: ModelSettings, artifact: Artifact, context: int
    ) -> LoadedInfo:
        spec = LoadSpec(settings.id, artifact.folder, artifact.manifest, settings.max_sequences, context)
        try:
            return await asyncio.wrap_future(device.load(spec))
        except DeviceRefused as e:
            if e.retry_after is not None:
                raise unavailable(e.reason, retry_after=e.retry_after) from e
            raise ApiError(422, "invalid_request_error", "does_not_fit", e.reason) from e
        except SessionError as e:
            raise ApiError(422, "api_error", "load_failed", str(e)) from e

    async def unload(self, model_id: str) -> int:
        """Unload; requests that still run on it fail. Returns the bytes it held. Raises ApiError 404: not loaded."""
        slot = self.slot(model_id)
        async with slot.lock:
            resident = slot.resident
            if resident is None:
                message = f"model '{model_id}' is not loaded on neuron {self._settings.name}"
                raise invalid_request(message, code="model_not_loaded", param="model_id", status=404)
            # from here on no new request gets in
            slot.state, slot.resident = "unloading", None
            try:
                freed = await asyncio.wrap_future(resident.device.unload(resident.info.handle))
            except (DeviceRefused, SessionError) as e:
                slot.state, slot.error = "failed", str(e)
                raise unavailable(f"cannot unload '{model_id}': {e}", retry_after=5) from e
            slot.state, slot.error = "unloaded", None
            _log.info("unloaded %s", model_id)
            return freed


_Value = TypeVar("_Value")


def _first(*values: _Value | None) -> _Value | None:
    return next((v for v in values if v is not None), None)


def _wrong_task(model_id: str, task: str, asked: str) -> ApiError:
    message = f"model '{model_id}' is for {task}, not {asked}"
    return invalid_request(message, code="wrong_modality", param="model")
