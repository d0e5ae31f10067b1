"""Which models are on which device of this neuron, and how they come and go. Lives on the event loop's thread.

State of a model: unloaded, loading, loaded, unloading, failed (with the reason; a further load tries again).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.protocol.request import Sampling
from neuron.artifacts.chat_template import ChatTemplate, defaults, eos_ids
from neuron.artifacts.store import Artifact, ArtifactError, locate, open_artifact
from neuron.artifacts.tokenizer import Tokenizer
from neuron.device.jobs import DeviceRefused, LoadedInfo, LoadSpec
from neuron.device.thread import DeviceThread
from neuron.session.base import SessionError
from neuron.settings import ModelSettings, NeuronSettings

State = Literal["unloaded", "loading", "loaded", "unloading", "failed"]
_log = logging.getLogger("neuron")


@dataclass(frozen=True, slots=True)
class Resident:
    """What a request needs of a loaded model. ``sampling`` holds the model's defaults."""

    settings: ModelSettings
    device: DeviceThread
    info: LoadedInfo
    context: int
    tokenizer: Tokenizer
    template: ChatTemplate
    eos_token_ids: tuple[int, ...]
    sampling: Sampling


class Slot:
    """A model of the configuration, with its state. ``lock`` serialises loading and unloading."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.state: State = "unloaded"
        self.error: str | None = None
        self.resident: Resident | None = None
        self.lock = asyncio.Lock()


class Residents:
    """All models of the configuration over the device threads, which the caller starts and stops."""

    def __init__(self, settings: NeuronSettings, devices: Mapping[str, DeviceThread]) -> None:
        self._settings = settings
        self._devices = devices
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

    async def activate(self) -> None:
        """Load what is pinned, one after the other; a failure is kept for ``/health`` and does not stop the rest."""
        for slot in self.slots.values():
            if slot.settings.pinned:
                try:
                    await self.load(slot.settings.id)
                except ApiError as e:
                    _log.error("cannot load pinned model %s: %s", slot.settings.id, e.message)
        self.activating = False

    async def load(self, model_id: str) -> Resident:
        """Load, or wait for the load that is under way. Raises ApiError with the reason."""
        slot = self.slot(model_id)
        async with slot.lock:
            if slot.resident is not None:
                return slot.resident
            slot.state, slot.error = "loading", None
            try:
                slot.resident = await self._load(slot.settings)
            except ApiError as e:
                slot.state, slot.error = "failed", e.message
                raise
            except BaseException:
                slot.state, slot.error = "failed", "the load was interrupted"
                raise
            slot.state = "loaded"
            _log.info("loaded %s on %s in %.2f s", model_id, slot.settings.devices[0], slot.resident.info.load_s)
            return slot.resident

    async def _load(self, settings: ModelSettings) -> Resident:
        if settings.task == "embed":
            message = f"model '{settings.id}' is for embeddings, which this version does not serve yet"
            raise ApiError(501, "api_error", "not_implemented", message, "model")
        if len(settings.devices) > 1:
            message = f"model '{settings.id}' wants {len(settings.devices)} devices; this version uses one a model"
            raise ApiError(501, "api_error", "not_implemented", message)
        try:
            folder = locate(settings.artifact, self._settings.base)
            artifact = await asyncio.to_thread(open_artifact, folder, settings.manifest_sha256)
            tokenizer = await asyncio.to_thread(Tokenizer, folder)
            template = ChatTemplate(folder)
            said = defaults(folder)
        except ArtifactError as e:
            raise ApiError(422, "invalid_request_error", "artifact_unusable", str(e)) from e
        context = min(settings.context or artifact.manifest.context, artifact.manifest.context)
        device = self._devices[settings.devices[0]]
        info = await self._on_device(device, settings, artifact, context)
        given = settings.sampling
        sampled = said.get("do_sample", True) is not False
        sampling = Sampling(
            temperature=_first(given.temperature, said.get("temperature") if sampled else 0.0),
            top_p=_first(given.top_p, said.get("top_p")),
            top_k=_first(given.top_k, said.get("top_k")),
            max_tokens=given.max_tokens,
        )
        ids = eos_ids(said.get("eos_token_id"), artifact.manifest.eos_token_ids)
        return Resident(settings, device, info, context, tokenizer, template, ids, sampling)

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
