"""The page that everybody reads: ``Engine.step``. One engine drives one loaded model, on its device's thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from neuron.engine.events import TokenEvent
from neuron.engine.kv import KvPool
from neuron.engine.scheduler import Batch, Decode, PrefillChunk, QueueFull, Scheduler
from neuron.engine.sequence import EngineRequest, Sequence
from neuron.engine.speed import Speed
from neuron.session.base import Logits, Session


class Engine:
    """Continuous batching over one session. ``clock`` gives seconds that only grow; ``publish`` must not raise.

    No method is safe from another thread. Only ``step`` runs the model; SessionError passes through it, and then
    ``fail_all`` is what remains to be done.
    """

    def __init__(
        self,
        session: Session,
        publish: Callable[[TokenEvent], None],
        clock: Callable[[], float],
        max_waiting: int = 64,
    ) -> None:
        self._session = session
        self._publish = publish
        self._clock = clock
        self.kv = KvPool(session.rows, session.context)
        self.scheduler = Scheduler(self.kv, session.max_chunk, max_waiting)
        self._inbox: deque[EngineRequest | str] = deque()
        self.steps = 0
        self.prefill_speed = Speed()
        self.decode_speed = Speed()

    def submit(self, request: EngineRequest) -> None:
        """To be started in the next step; a request that cannot run ends with GenerationFailed there."""
        self._inbox.append(request)

    def abort(self, request_id: str) -> None:
        """To be ended, and its row freed, in the next step. An unknown id is nothing: it has just ended."""
        self._inbox.append(request_id)

    @property
    def running(self) -> int:
        """Requests that hold a row."""
        return self.kv.in_use

    @property
    def kv_used(self) -> int:
        """Tokens in the KV pool."""
        return self.kv.used

    @property
    def kv_total(self) -> int:
        """Tokens that the KV pool can hold."""
        return self.kv.capacity

    @property
    def idle(self) -> bool:
        """No step has anything to do."""
        return not self._inbox and self.scheduler.idle

    def step(self) -> bool:
        """Run one batch; False when there was none to run."""
        self._drain_inbox()
        started = self._clock()
        batch = self.scheduler.schedule(started)
        if batch is None:
            return False
        logits = self._run(batch)
        chosen = [s.choose(logits[i]) for i, s in batch.sampled]
        told = [s.told(logits[i], token) for (i, s), token in zip(batch.sampled, chosen, strict=True)]
        now = self._clock()
        events = self.scheduler.update(batch, chosen, now, told)
        self._measure(batch, now - started)
        for event in events:
            self._publish(event)
        return True

    def fail_all(self, message: str) -> None:
        """End every request, waiting ones too, with GenerationFailed."""
        self._drain_inbox()
        for sequence in self.scheduler.all():
            self.scheduler.abort(sequence.request_id)
            self._publish(sequence.failed(message))

    def _run(self, batch: Batch) -> Logits:
        if isinstance(batch, Decode):
            return self._session.decode(batch.tokens, batch.lengths)
        return self._session.prefill(batch.sequence.row, batch.tokens, batch.start)[np.newaxis]

    def _drain_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, EngineRequest):
                self._add(Sequence.of(item))
            elif sequence := self.scheduler.abort(item):
                self._publish(sequence.ended("abort", self._clock()))

    def _add(self, sequence: Sequence) -> None:
        try:
            self.scheduler.add(sequence)
        except (QueueFull, ValueError) as e:
            self._publish(sequence.failed(str(e)))

    def _measure(self, batch: Batch, seconds: float) -> None:
        self.steps += 1
        if isinstance(batch, PrefillChunk):
            self.prefill_speed.add(len(batch.tokens), seconds)
        else:
            self.decode_speed.add(len(batch.sequences), seconds)
