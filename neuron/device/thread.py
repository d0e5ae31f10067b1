"""The thread that owns a device. Everything else in the process holds integer handles and puts jobs on its queue."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from neuron.device.door import Door
from neuron.device.jobs import (
    Abort,
    DeviceRefused,
    DeviceSpec,
    DeviceStatus,
    Embed,
    EmbedSpec,
    GenerationSpec,
    Job,
    Load,
    LoadedInfo,
    LoadSpec,
    Memory,
    MemoryInfo,
    OnEvent,
    Shutdown,
    Submit,
    Unload,
)
from neuron.device.memory import check_fits, check_request
from neuron.device.meter import Meter, process_bytes
from neuron.device.model import LoadedModel
from neuron.device.probe import ProbeError, cuda_free_bytes, cuda_used_bytes
from neuron.engine.sampler import prepare
from neuron.session.base import Encoder, Session, SessionError, SessionFactory, SessionSpec
from neuron.session.encoder import open_session

T = TypeVar("T")

_log = logging.getLogger("neuron.device")

MAX_WAITING = 64
"""Requests that may wait for a row, per model, before the door says no."""

LOAD_LIMIT_S = 1800.0
"""How long one load may take. While it lasts nothing can be seen of its progress, so this much is believed."""

_IDLE_BEAT_S = 5.0
WARM_S = 5.0
"""How long a model may run after its load, to take what it will need; longer than that, and it is not measured."""

_FAILED = "the model failed while it generated; the neuron's log has the cause"
_handles = itertools.count(1)  # over all devices of the process, so that a handle names one model only


class DeviceThread:
    """One device. ``start`` it once; the other methods may be called from any thread and do not wait for it.

    ``session_factory`` opens a model, ``free_bytes`` measures the device's free memory (default: the driver's answer
    on CUDA, what is declared less what is loaded on a CPU); both run on the thread. ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        device: DeviceSpec,
        session_factory: SessionFactory = open_session,
        *,
        free_bytes: Callable[[], int] | None = None,
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device = device
        self._open = session_factory
        if free_bytes is None and device.kind == "cuda":
            free_bytes = functools.partial(cuda_free_bytes, device.index)
        self._free_bytes = free_bytes
        self._max_waiting = max_waiting
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name=device.name, daemon=True)
        self._door = Door(device)
        # the thread's own, in the order in which the models take turns
        self._models: dict[int, LoadedModel] = {}
        self._steps = 0
        # written by the thread, read by ``stalled_s``
        self._got_on_at = clock()
        self._loading_since: float | None = None

    # --- any thread -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Raises RuntimeError where gevent has replaced threads by greenlets, or the second time."""
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            raise RuntimeError(
                f"{self.device.name} needs an OS thread, but gevent has patched threading in this process; "
                "run the neuron on gunicorn's `asgi` worker, not on `gevent`"
            )
        self._thread.start()
        self._door.open()

    def stop(self, timeout: float) -> bool:
        """End every request with GenerationFailed, close the models, end the thread. False: still busy after
        ``timeout`` seconds (it is a daemon thread, so the process can end regardless)."""
        if not self._door.shut():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def load(self, spec: LoadSpec) -> Future[LoadedInfo]:
        """Load a model. DeviceRefused, raised here or by the future: it cannot run, or does not fit (with the
        arithmetic). SessionError by the future: the artifact or the device failed."""
        check_request(spec)
        result: Future[LoadedInfo] = Future()
        self._door.admit_control(Load(spec, result))
        return result

    def unload(self, handle: int) -> Future[int]:
        """Unload a model; its requests end with GenerationFailed. The future holds the bytes that it gave back."""
        result: Future[int] = Future()
        self._door.admit_control(Unload(handle, result))
        return result

    def memory(self) -> Future[MemoryInfo]:
        """Measure the device's memory between two steps."""
        result: Future[MemoryInfo] = Future()
        self._door.admit_control(Memory(result))
        return result

    def submit(self, handle: int, spec: GenerationSpec, on_event: OnEvent) -> None:
        """Start a generation. ``on_event`` gets everything else, on the device's thread; it must return at once.

        Raises DeviceRefused: the device is down, the handle unknown, the queue full (with ``retry_after``), the
        request id in use, or the request cannot run (no tokens, too many, a sampling value that means nothing).
        """
        try:
            prepare(spec.sampling)
        except ValueError as e:
            raise DeviceRefused(str(e)) from e
        entropy = secrets.randbits(64)
        self._door.admit_request(handle, spec, lambda: Submit(handle, spec, on_event, self._clock(), entropy))

    def embed(self, handle: int, spec: EmbedSpec, on_event: OnEvent) -> None:
        """Make vectors; ``on_event`` and DeviceRefused as in ``submit``."""
        self._door.admit_request(handle, spec, lambda: Embed(handle, spec, on_event, self._clock()))

    def abort(self, request_id: str) -> None:
        """End a request; its last event comes within one step. Nothing happens for one that has ended."""
        self._door.admit_abort(request_id)

    def status(self) -> DeviceStatus:
        """A snapshot; waits for nothing."""
        return self._door.snapshot(self._steps)

    def stalled_s(self) -> float:
        """Seconds since the thread last got on: a step computed, a job done, or nothing found to do.

        A load counts as getting on for LOAD_LIMIT_S seconds. Waits for nothing.
        """
        now, loading_since = self._clock(), self._loading_since
        if loading_since is not None:
            return max(0.0, now - loading_since - LOAD_LIMIT_S)
        return now - self._got_on_at

    def hold(self, reason: str) -> None:
        """Take no more requests and loads: they are refused with ``reason`` and a time to come back."""
        self._door.hold(reason)

    @property
    def poisoned(self) -> bool:
        """Nothing runs here until the process ends."""
        return self._door.poisoned

    @property
    def busy(self) -> bool:
        """Whether a request that was accepted has not ended."""
        return self._door.busy

    # --- the device's thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as e:
            # nobody would ever answer again: say so at the door, and in the health
            _log.exception("the thread of %s ended by a defect", self.device.name)
            self._poison(repr(e))
            raise
        finally:
            self._wind_up()

    def _serve(self) -> None:
        while True:
            job = self._next_job()
            if isinstance(job, Shutdown):
                return
            if job is not None:
                self._do(job)
            elif self._working and not self._step_one_model():
                continue  # work, and nothing came of it: that is not getting on
            self._got_on_at = self._clock()

    @property
    def _working(self) -> bool:
        return any(not model.engine.idle for model in self._models.values())

    def _next_job(self) -> Job | None:
        """The next job, or None. Without work it waits here, and comes round now and then to show that it lives."""
        try:
            return self._door.jobs.get(block=not self._working, timeout=_IDLE_BEAT_S)
        except queue.Empty:
            return None

    def _step_one_model(self) -> bool:
        """One step of the next model that has work: models take turns, and jobs are seen between any two steps.

        False when the step had nothing to compute.
        """
        model = next(model for model in self._models.values() if not model.engine.idle)
        self._models[model.handle] = self._models.pop(model.handle)  # to the end of the line
        try:
            computed = model.engine.step()
            self._steps += computed
            return computed
        except SessionError as e:
            _log.error("model %s failed on %s: %s", model.spec.model_id, self.device.name, e)
            if e.poisons:
                self._poison(str(e))
            else:
                model.fail_all(_FAILED)
        except Exception:  # noqa: BLE001  (a defect of ours ends this model's requests, not the device)
            _log.exception("the engine of model %s failed on %s", model.spec.model_id, self.device.name)
            model.fail_all(_FAILED)
        return True

    def _do(self, job: Job) -> None:
        match job:
            case Submit() | Embed():
                self._do_submit(job)
            case Abort():
                for model in self._models.values():
                    model.engine.abort(job.request_id)
            case Load():
                self._loading_since = self._clock()
                self._do_control(job.result, lambda: self._do_load(job.spec))
                self._loading_since = None
            case Unload():
                self._do_control(job.result, lambda: self._do_unload(job.handle), even_if_cancelled=True)
            case Memory():
                self._do_control(job.result, self._measure)

    def _do_control(self, result: Future[T], work: Callable[[], T], even_if_cancelled: bool = False) -> None:
        """Do the work and settle its future, which the caller may have given up."""
        self._door.control_done()
        wanted = result.set_running_or_notify_cancel()
        if not wanted and not even_if_cancelled:
            return
        try:
            if self._door.poisoned:
                raise DeviceRefused(self._door.reason)
            value = work()
        except Exception as e:  # noqa: BLE001  (it goes to whoever holds the future)
            if isinstance(e, SessionError) and e.poisons:
                self._poison(str(e))
            if wanted:
                result.set_exception(e)
            return
        if wanted:
            result.set_result(value)

    def _do_load(self, spec: LoadSpec) -> LoadedInfo:
        check_fits(spec, self.device, self._measure())
        device, started = self.device, self._clock()
        wanted = SessionSpec(
            spec.artifact, spec.manifest, spec.rows, spec.context, device.kind, device.index, device.threads
        )
        prepare = getattr(self._open, "prepare", None)
        if prepare is not None:
            prepare(wanted)
        meter = self._meter()
        try:
            session = self._open(wanted)
            measured = _took(session, meter, device.kind)
        finally:
            meter.close()
        model = LoadedModel(next(_handles), spec, session, self._clock, self._max_waiting, self._door.request_ended)
        self._models[model.handle] = model
        self._door.add_model(model)
        took = self._clock() - started
        _log.info("loaded %s on %s in %.1f s, handle %d", spec.model_id, device.name, took, model.handle)
        return LoadedInfo(model.handle, spec.manifest.weight_bytes, session.kv_bytes, took, measured)

    def _meter(self) -> Meter:
        if self.device.kind == "cuda":
            return Meter(functools.partial(cuda_used_bytes, self.device.index), alone=False)
        return Meter(process_bytes, alone=True)

    def _do_unload(self, handle: int) -> int:
        model = self._models[handle]
        model.fail_all("the model was unloaded")
        del self._models[handle]
        self._door.remove_model(handle)
        freed = model.memory_bytes
        model.session.close()
        _log.info("unloaded %s from %s", model.spec.model_id, self.device.name)
        return freed

    def _do_submit(self, job: Submit | Embed) -> None:
        # its model is here: an Unload comes after every request that passed the door, and closes it to others
        model = self._models[job.handle]
        model.submit(job)
        if self._door.poisoned:
            model.fail_all(self._door.reason)

    def _measure(self) -> MemoryInfo:
        total = self.device.memory_bytes
        used = sum(model.memory_bytes for model in self._models.values())
        free = total - used
        if self._free_bytes is not None:
            try:
                free = min(free, self._free_bytes())
            except ProbeError as e:
                _log.warning("%s: free memory is not measured, what is declared counts: %s", self.device.name, e)
        return MemoryInfo(total, used, free)

    def _poison(self, detail: str) -> None:
        """Nothing on this device works any more. Its sessions are left alone: closing them may never return."""
        _log.critical("%s is lost until this process ends: %s", self.device.name, detail)
        self._door.poison()
        for model in self._models.values():
            model.fail_all(f"{self.device.name} failed")

    def _wind_up(self) -> None:
        """End whatever is left; the door is shut already."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._door.jobs.get_nowait()
                if isinstance(job, Submit | Embed):
                    self._models[job.handle].submit(job)
                elif isinstance(job, Load | Unload | Memory) and job.result.set_running_or_notify_cancel():
                    job.result.set_exception(DeviceRefused(self._door.reason))
        for model in self._models.values():
            model.fail_all(self._door.reason)
            if not self._door.poisoned:
                model.session.close()
                self._door.remove_model(model.handle)


def _took(session: Session | Encoder, meter: Meter, kind: str) -> int | None:
    """What the session takes at most, once it has run: None if it was not run, or nobody can tell.

    Raises SessionError, and then the session is closed: what does not run once is not loaded.
    """
    try:
        touched = session.warm(WARM_S)
    except SessionError as e:
        if not e.poisons:
            session.close()
        raise
    grown = meter.grown()
    if touched is None or grown is None:
        return None
    # On a CPU, a part of the KV pool that nobody wrote to is reserved, but not there yet.
    return grown + (session.kv_bytes - touched if kind == "cpu" else 0)
