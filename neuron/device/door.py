"""What a device and the rest of the process share, behind one lock: who may come in, what is loaded, what was counted.

Other threads call ``admit_*``, ``wants_abort`` and ``snapshot``; the device's thread calls the rest. Nothing here waits
for the device, and jobs are put on the queue under the lock, so that their order is the order of admission.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from neuron.device.jobs import (
    Abort,
    DeviceHealth,
    DeviceRefused,
    DeviceSpec,
    DeviceStatus,
    Embed,
    EmbedSpec,
    GenerationSpec,
    Job,
    LoadSpec,
    ModelCounters,
    Shutdown,
    Submit,
    Unload,
)
from neuron.device.model import LoadedModel

_MAX_CONTROL_JOBS = 32


class Door:
    """Admission to one device. The queue needs no bound of its own: what may be on it is bounded here, by the pending
    requests of each model, one abort for each of them, and _MAX_CONTROL_JOBS."""

    def __init__(self, device: DeviceSpec) -> None:
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._device = device
        self._lock = threading.Lock()
        self._health: DeviceHealth = "starting"
        self._reason: str | None = None
        self._held: str | None = None
        self._models: dict[int, LoadedModel] = {}
        self._live: dict[str, bool] = {}  # accepted request -> an abort is on its way
        self._control_jobs = 0
        self._counters: dict[str, ModelCounters] = {}

    @property
    def poisoned(self) -> bool:
        return self._health == "poisoned"

    @property
    def reason(self) -> str:
        """Why the device takes nothing more."""
        return self._reason or f"{self._device.name} has not started"

    @property
    def busy(self) -> bool:
        return bool(self._live)

    def hold(self, reason: str) -> None:
        """Let nothing new in, for ``reason``; what is inside goes on."""
        with self._lock:
            self._held = reason

    def admit_request(self, handle: int, spec: GenerationSpec | EmbedSpec, job: Callable[[], Submit | Embed]) -> None:
        """Queue ``job()``, or raise DeviceRefused."""
        with self._lock:
            model = self._model(handle)
            _check(model.spec, spec)
            if spec.request_id in self._live:
                raise DeviceRefused(f"the request id {spec.request_id} is in use")
            if model.pending >= model.capacity:
                raise DeviceRefused(
                    f"{model.spec.model_id} is busy: {model.pending} requests run or wait", model.retry_after_s()
                )
            model.pending += 1
            self._live[spec.request_id] = False
            self.jobs.put(job())

    def admit_abort(self, request_id: str) -> None:
        """Queue an abort, once, for a request that has not ended."""
        with self._lock:
            if self._live.get(request_id) is False:
                self._live[request_id] = True
                self.jobs.put(Abort(request_id))

    def admit_control(self, job: Job) -> None:
        """Queue a load, unload or measurement, or raise DeviceRefused. A model that leaves takes no more requests."""
        with self._lock:
            self._refuse_when_down()
            leaving = self._model(job.handle) if isinstance(job, Unload) else None
            if self._control_jobs >= _MAX_CONTROL_JOBS:
                raise DeviceRefused(f"{self._device.name} has {self._control_jobs} jobs to do already", retry_after=1)
            self._control_jobs += 1
            if leaving is not None:
                leaving.leaving = True
            self.jobs.put(job)

    def open(self) -> None:
        """The thread runs."""
        with self._lock:
            if self._health == "starting":
                self._health = "ok"

    def shut(self) -> bool:
        """Take nothing more and queue the shutdown; False when the thread never ran."""
        with self._lock:
            if self._health == "starting":
                self._health, self._reason = "stopped", f"{self._device.name} has stopped"
                return False
            if self._health == "ok":
                self._health, self._reason = "stopped", f"{self._device.name} is stopping"
            self.jobs.put(Shutdown())
            return True

    def poison(self) -> None:
        """Take nothing more until the process ends, and say so."""
        with self._lock:
            self._health = "poisoned"
            self._reason = f"{self._device.name} failed and stays unusable until the neuron starts again"

    def control_done(self) -> None:
        with self._lock:
            self._control_jobs -= 1

    def add_model(self, model: LoadedModel) -> None:
        with self._lock:
            self._models[model.handle] = model

    def remove_model(self, handle: int) -> None:
        with self._lock:
            del self._models[handle]

    def request_ended(self, model: LoadedModel, request_id: str, counts: ModelCounters) -> None:
        """Book it and free its id and its place; before the listener hears of it."""
        with self._lock:
            model.pending -= 1
            del self._live[request_id]
            name = model.spec.model_id
            old = self._counters.get(name, ModelCounters())
            self._counters[name] = ModelCounters(
                old.requests + counts.requests,
                old.prompt_tokens + counts.prompt_tokens,
                old.completion_tokens + counts.completion_tokens,
                old.cached_tokens + counts.cached_tokens,
            )

    def snapshot(self, progress: int) -> DeviceStatus:
        """What is true now, without waiting for the device."""
        with self._lock:
            return DeviceStatus(
                name=self._device.name,
                health=self._health,
                reason=self._reason,
                memory_bytes=self._device.memory_bytes,
                memory_used_bytes=sum(model.memory_bytes for model in self._models.values()),
                progress=progress,
                models=tuple(model.status() for model in self._models.values()),
                counters=dict(self._counters),
            )

    def _refuse_when_down(self) -> None:
        if self._health != "ok":
            raise DeviceRefused(self.reason)
        if self._held is not None:
            raise DeviceRefused(self._held, retry_after=5)

    def _model(self, handle: int) -> LoadedModel:
        self._refuse_when_down()
        model = self._models.get(handle)
        if model is None or model.leaving:
            raise DeviceRefused(f"no model has the handle {handle} on {self._device.name}; it was unloaded")
        return model


def _check(model: LoadSpec, spec: GenerationSpec | EmbedSpec) -> None:
    """Raise DeviceRefused for what the model cannot do."""
    name, task = model.model_id, model.manifest.task
    if isinstance(spec, EmbedSpec):
        if task != "embed":
            raise DeviceRefused(f"{name} is a model of task {task!r}; it makes no vectors")
        if not spec.inputs:
            raise DeviceRefused("there is nothing to embed")
        for tokens in spec.inputs:
            if not 0 < len(tokens) <= model.context:
                raise DeviceRefused(f"an input has {len(tokens)} tokens; {name} takes 1 to {model.context}")
        return
    if task != "chat":
        raise DeviceRefused(f"{name} is a model of task {task!r}; it generates no text")
    longest = model.context - 1
    if not 0 < len(spec.tokens) <= longest:
        raise DeviceRefused(f"the prompt has {len(spec.tokens)} tokens; {name} takes 1 to {longest}")
    if spec.max_tokens < 1:
        raise DeviceRefused(f"max_tokens must be at least 1, not {spec.max_tokens}")
