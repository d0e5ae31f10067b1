"""Embeddings in steps: each computes one batch of inputs of the same length, of whichever requests they are.

The length is that of the input that waits longest, so nothing waits for ever; and no input is padded, so a vector does
not depend on its batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neuron.engine.events import Embedded, GenerationFailed, TokenEvent
from neuron.engine.speed import Speed
from neuron.session.base import Encoder, Vectors


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """``inputs`` in token ids, none empty. ``submitted_at`` in seconds on the engine's clock."""

    request_id: str
    inputs: tuple[tuple[int, ...], ...]
    submitted_at: float


class _Work:
    """A request with what is done of it. ``waiting`` are the indices of the inputs that are not."""

    def __init__(self, request: EmbeddingRequest, dimensions: int) -> None:
        self.request = request
        self.waiting = deque(range(len(request.inputs)))
        self.vectors: Vectors = np.empty((len(request.inputs), dimensions), np.float32)
        self.started_at: float | None = None
        self.tokens = 0


class EmbeddingEngine:
    """For one loaded encoder, on its device's thread. ``clock`` and ``publish`` as in ``Engine``.

    Only ``step`` runs the model; SessionError passes through it, and then ``fail_all`` is what remains to be done.
    """

    kv_used = 0
    kv_total = 0

    def __init__(self, encoder: Encoder, publish: Callable[[TokenEvent], None], clock: Callable[[], float]) -> None:
        self._encoder = encoder
        self._publish = publish
        self._clock = clock
        self._work: dict[str, _Work] = {}
        self.steps = 0
        self.prefill_speed = Speed()
        self.decode_speed = Speed()

    @property
    def running(self) -> int:
        """Requests of which something was computed."""
        return sum(work.started_at is not None for work in self._work.values())

    @property
    def idle(self) -> bool:
        """No step has anything to do."""
        return not self._work

    def submit(self, request: EmbeddingRequest) -> None:
        """To be computed in the next steps."""
        self._work[request.request_id] = _Work(request, self._encoder.dimensions)

    def abort(self, request_id: str) -> None:
        """End it now, without an answer. An unknown id is nothing: it has just ended."""
        if work := self._work.pop(request_id, None):
            self._publish(_failed(work, "the request was aborted"))

    def step(self) -> bool:
        """Compute one batch; False when there was none."""
        if not self._work:
            return False
        started = self._clock()
        batch = self._next_batch()
        tokens = np.array([work.request.inputs[i] for work, i in batch], np.int64)
        vectors = self._encoder.embed(tokens)
        now = self._clock()
        self.steps += 1
        self.prefill_speed.add(tokens.size, now - started)
        for (work, i), vector in zip(batch, vectors, strict=True):
            if work.started_at is None:
                work.started_at = started
            work.waiting.remove(i)
            work.vectors[i] = vector
            work.tokens += tokens.shape[1]
        for work in {id(work): work for work, _ in batch}.values():
            self._finish(work, now)
        return True

    def fail_all(self, message: str) -> None:
        """End every request with GenerationFailed."""
        while self._work:
            _, work = self._work.popitem()
            self._publish(_failed(work, message))

    def _next_batch(self) -> list[tuple[_Work, int]]:
        """Inputs as long as the next one of the request whose turn it is: first its own, then those of others.

        The requests take turns, so that one input does not wait for the two thousand of somebody else.
        """
        first = next(iter(self._work.values()))
        self._work[first.request.request_id] = self._work.pop(first.request.request_id)  # to the end of the line
        length = len(first.request.inputs[first.waiting[0]])
        most = self._encoder.most(length)
        found: list[tuple[_Work, int]] = []
        for work in (first, *(w for w in self._work.values() if w is not first)):
            for i in work.waiting:
                if len(work.request.inputs[i]) == length:
                    found.append((work, i))
                    if len(found) == most:
                        return found
        return found

    def _finish(self, work: _Work, now: float) -> None:
        if work.waiting:
            return
        request = work.request
        del self._work[request.request_id]
        if not np.isfinite(work.vectors).all():
            message = "the model produced numbers that are not finite; its artifact or device is faulty"
            self._publish(_failed(work, message))
            return
        started = request.submitted_at if work.started_at is None else work.started_at
        self._publish(
            Embedded(request.request_id, work.vectors, work.tokens, started - request.submitted_at, now - started)
        )


def _failed(work: _Work, message: str) -> GenerationFailed:
    return GenerationFailed(work.request.request_id, message, work.tokens, 0)
