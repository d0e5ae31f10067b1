"""One loaded model on a device: its session, its engine, and who listens to its requests.

Everything here belongs to the device's thread, but for ``pending``, ``leaving`` and plain numbers that others read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import cast

from neuron.device.jobs import Embed, LoadSpec, ModelCounters, ModelStatus, OnEvent, Submit
from neuron.engine.embed import EmbeddingEngine, EmbeddingRequest
from neuron.engine.events import Embedded, GenerationEnded, GenerationFailed, TokenEvent, TokenProduced
from neuron.engine.loop import Engine
from neuron.engine.sampler import prepare
from neuron.engine.sequence import EngineRequest
from neuron.session.base import Encoder, Session

_log = logging.getLogger("neuron.device")
_MAX_RETRY_AFTER_S = 60


class LoadedModel:
    """``ended`` gets the counts of each request before its listener gets the last event."""

    def __init__(
        self,
        handle: int,
        spec: LoadSpec,
        session: Session | Encoder,
        clock: Callable[[], float],
        max_waiting: int,
        ended: Callable[[LoadedModel, str, ModelCounters], None],
    ) -> None:
        self.handle = handle
        self.spec = spec
        self.session = session
        self.capacity = spec.rows + max_waiting
        self.pending = 0  # accepted and not ended; guarded by the door's lock
        self.leaving = False  # no request is accepted any more; guarded likewise
        self._clock = clock
        self._max_waiting = max_waiting
        self._ended = ended
        self._sinks: dict[str, OnEvent] = {}
        self._siblings: set[str] = set()
        self._mean_request_s = 1.0
        self._steps_before = 0
        self.engine = self._new_engine()

    @property
    def memory_bytes(self) -> int:
        return self.spec.manifest.weight_bytes + self.session.kv_bytes

    @property
    def steps(self) -> int:
        """Batches that ran, over the life of the model."""
        return self._steps_before + self.engine.steps

    def submit(self, job: Submit | Embed) -> None:
        """Hand the request to the engine; it starts with the next step."""
        self._sinks[job.spec.request_id] = job.on_event
        if isinstance(job, Submit) and job.spec.sibling:
            self._siblings.add(job.spec.request_id)
        engine = self.engine
        if isinstance(engine, EmbeddingEngine):
            assert isinstance(job, Embed)  # noqa: S101  (the door lets nothing else in)
            engine.submit(EmbeddingRequest(job.spec.request_id, job.spec.inputs, job.submitted_at))
            return
        assert isinstance(job, Submit)  # noqa: S101
        spec = job.spec
        engine.submit(
            EngineRequest(
                spec.request_id,
                spec.tokens,
                prepare(spec.sampling),
                spec.eos_token_ids,
                spec.max_tokens,
                job.submitted_at,
                job.entropy,
                spec.top_logprobs,
                spec.sibling,
                spec.grammar,
            )
        )

    def publish(self, event: TokenEvent) -> None:
        """Book a last event, then tell whoever asked. A listener that raises loses its request, nothing else."""
        sink = self._sinks.get(event.request_id)
        if not isinstance(event, TokenProduced):
            del self._sinks[event.request_id]
            self._book(event)
        if sink is None:
            return
        try:
            sink(event)
        except Exception:  # noqa: BLE001  (whatever the listener's defect is, it must not end this thread)
            _log.exception("the listener of request %s on model %s failed", event.request_id, self.spec.model_id)
            if event.request_id in self._sinks:
                self._sinks[event.request_id] = _nobody
                self.engine.abort(event.request_id)

    def fail_all(self, message: str) -> None:
        """End every request with ``message`` and start over with an empty engine, whatever state the old one is in."""
        try:
            self.engine.fail_all(message)
        except Exception:  # noqa: BLE001  (the engine's state may be what is broken)
            _log.exception("the engine of model %s could not end its requests", self.spec.model_id)
        for request_id in list(self._sinks):
            self.publish(GenerationFailed(request_id, message, 0, 0))
        self._steps_before += self.engine.steps
        self.engine = self._new_engine()

    def retry_after_s(self) -> int:
        """Seconds until the queue has probably moved, from how long requests took lately."""
        waves = (self.pending - self.spec.rows) / self.spec.rows
        return max(1, min(_MAX_RETRY_AFTER_S, math.ceil(self._mean_request_s * waves)))

    def status(self) -> ModelStatus:
        """Numbers that are each right, though not all of the same instant; any thread."""
        engine = self.engine
        in_flight = engine.running
        return ModelStatus(
            handle=self.handle,
            model_id=self.spec.model_id,
            rows=self.spec.rows,
            context=self.spec.context,
            in_flight=in_flight,
            queue_depth=max(0, self.pending - in_flight),
            kv_tokens_used=engine.kv_used,
            kv_tokens_total=engine.kv_total,
            weight_bytes=self.spec.manifest.weight_bytes,
            kv_bytes=self.session.kv_bytes,
            steps=self.steps,
            prefill_tok_s=engine.prefill_speed.tokens_per_s,
            decode_tok_s=engine.decode_speed.tokens_per_s,
        )

    def _new_engine(self) -> Engine | EmbeddingEngine:
        if self.spec.manifest.task == "embed":
            return EmbeddingEngine(cast(Encoder, self.session), self.publish, self._clock)
        return Engine(cast(Session, self.session), self.publish, self._clock, self._max_waiting)

    def _book(self, event: GenerationEnded | GenerationFailed | Embedded) -> None:
        took, completion, cached = None, 0, 0
        if isinstance(event, Embedded):
            took = event.compute_s
        else:
            completion = event.completion_tokens
            if isinstance(event, GenerationEnded):
                took, cached = event.prefill_s + event.decode_s, event.cached_tokens
        if took is not None:
            self._mean_request_s += 0.2 * (took - self._mean_request_s)
        requests = 0 if event.request_id in self._siblings else 1
        self._siblings.discard(event.request_id)
        self._ended(self, event.request_id, ModelCounters(requests, event.prompt_tokens, completion, cached))


def _nobody(event: TokenEvent) -> None:
    """The listener of a request whose own one failed."""
