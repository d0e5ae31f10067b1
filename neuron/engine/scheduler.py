"""What runs next: a chunk of one prompt, or one token for every sequence that generates. Pure, and quick to test."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuron.engine.events import EndReason, GenerationEnded, TokenEvent, TokenProduced
from neuron.engine.kv import KvCorrupt, KvPool
from neuron.engine.logprobs import Logprobs
from neuron.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """``tokens`` of the prompt, from position ``start``. Only the ``last`` chunk yields a token."""

    sequence: Sequence
    start: int
    tokens: tuple[int, ...]
    last: bool

    @property
    def sampled(self) -> tuple[tuple[int, Sequence], ...]:
        """(index into the logits, sequence) of whatever gets a token from this batch."""
        return ((0, self.sequence),) if self.last else ()


@dataclass(frozen=True, slots=True)
class Decode:
    """One token for each of the rows ``0..n-1``: ``tokens[row]`` goes to position ``lengths[row]``.

    Rows that do not generate get a dummy token (see ``Scheduler._decode``).
    """

    sequences: tuple[Sequence, ...]
    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def sampled(self) -> tuple[tuple[int, Sequence], ...]:
        return tuple((s.row, s) for s in self.sequences)


Batch = PrefillChunk | Decode


class QueueFull(Exception):
    """No more sequences may wait."""


class Scheduler:
    """First come, first served. Prompt chunks and decode steps alternate while both have work, so a sequence that
    generates never waits for more than one chunk, and a long prompt does not starve a short one (chunks go round)."""

    def __init__(self, kv: KvPool, max_chunk: int, max_waiting: int) -> None:
        self.kv = kv
        self._chunk = max(1, max_chunk)
        # beside running answers the chunks are smaller: their tokens keep flowing
        self._chunk_beside_decode = max(1, min(self._chunk, max(32, self._chunk // 4)))
        self._max_waiting = max_waiting
        self.waiting: deque[Sequence] = deque()
        self.prefilling: deque[Sequence] = deque()
        self.decoding: dict[int, Sequence] = {}
        self._prefilled_last = False

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.prefilling or self.decoding)

    def all(self) -> list[Sequence]:
        """Every sequence that has not ended."""
        return [*self.decoding.values(), *self.prefilling, *self.waiting]

    def add(self, sequence: Sequence) -> None:
        """Queue it. Raises QueueFull, and ValueError for a prompt that no row can hold."""
        length = len(sequence.request.prompt)
        longest = self.kv.context - 1
        if not 0 < length <= longest:
            raise ValueError(f"the prompt has {length} tokens; a context of {self.kv.context} takes 1 to {longest}")
        if sequence.request.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {sequence.request.max_tokens}")
        # whoever can be admitted in the next step does not count as waiting
        if len(self.waiting) >= self._max_waiting + (self.kv.rows - self.kv.in_use):
            raise QueueFull(f"{len(self.waiting)} requests already wait")
        self.waiting.append(sequence)

    def abort(self, request_id: str) -> Sequence | None:
        """Take it out and free its row; None when it is not here (any more)."""
        for sequence in self.all():
            if sequence.request_id == request_id:
                self._remove(sequence)
                return sequence
        return None

    def schedule(self, now: float) -> Batch | None:
        """The next batch, or None without work. Every batch must come back through ``update``."""
        self._admit(now)
        if self.prefilling and not (self.decoding and self._prefilled_last):
            self._prefilled_last = True
            return self._next_chunk()
        self._prefilled_last = False
        return self._decode() if self.decoding else None

    def update(
        self,
        batch: Batch,
        chosen: SequenceOf[int | None],
        now: float,
        told: SequenceOf[Logprobs | None] | None = None,
    ) -> list[TokenEvent]:
        """Book what ``batch`` did. ``chosen`` has one token per entry of ``batch.sampled``; None is unusable logits.

        ``told`` has what clients want to know of each of these tokens.
        """
        if isinstance(batch, PrefillChunk):
            self._book_chunk(batch, now)
        else:
            for sequence in batch.sequences:
                self.kv.grow(sequence.row, 1)
        events: list[TokenEvent] = []
        for (_, sequence), token, known in zip(batch.sampled, chosen, told or [None] * len(chosen), strict=True):
            events += self._book_token(sequence, token, known, now)
        return events

    def check_integrity(self) -> None:
        """Raise KvCorrupt unless rows, lengths and queues agree."""
        running = [*self.decoding.values(), *self.prefilling]
        self.kv.check_integrity(s.row for s in running)
        for sequence in running:
            written = sequence.computed + max(0, len(sequence.generated) - 1)
            if self.kv.lengths[sequence.row] != written:
                raise KvCorrupt(f"row {sequence.row} holds {self.kv.lengths[sequence.row]} tokens, not {written}")

    def _admit(self, now: float) -> None:
        while self.waiting:
            first = self.waiting[0]
            row = self.kv.acquire(first.tokens_at_most(self.kv.context), first.request.prompt)
            if row is None:
                return  # nobody overtakes the first one: a large request must not starve
            sequence = self.waiting.popleft()
            sequence.row, sequence.admitted_at = row, now
            sequence.cached = sequence.computed = self.kv.lengths[row]
            self.prefilling.append(sequence)

    def _next_chunk(self) -> PrefillChunk:
        sequence = self.prefilling[0]
        size = self._chunk_beside_decode if self.decoding else self._chunk
        start = sequence.computed
        tokens = sequence.request.prompt[start : start + size]
        return PrefillChunk(sequence, start, tokens, last=len(tokens) == sequence.prompt_left)

    def _decode(self) -> Decode:
        """All rows up to the highest one that generates.

        A row in between that waits for its next prompt chunk gets token 0 at the position after its last token. That
        writes garbage there, and nobody ever reads it: the next chunk of this row writes that same position in the very
        call that first attends to it. A row is never full while it idles, because a prompt leaves room for at least one
        token. A row that belongs to nobody gets its own first token at position 0: what it keeps stays as it is.
        """
        n = max(self.decoding) + 1
        tokens = np.array([self.kv.idle_token(row) for row in range(n)], np.int64)
        for row, sequence in self.decoding.items():
            tokens[row] = sequence.generated[-1]
        return Decode(tuple(self.decoding.values()), tokens, np.array(self.kv.lengths[:n], np.int64))

    def _book_chunk(self, batch: PrefillChunk, now: float) -> None:
        sequence = batch.sequence
        self.kv.grow(sequence.row, len(batch.tokens))
        sequence.computed += len(batch.tokens)
        self.prefilling.remove(sequence)
        if batch.last:
            sequence.prefilled_at = now
            self.decoding[sequence.row] = sequence
        else:
            self.prefilling.append(sequence)

    def _book_token(
        self, sequence: Sequence, token: int | None, known: Logprobs | None, now: float
    ) -> list[TokenEvent]:
        if token is None:
            self._remove(sequence, keep=False)
            return [sequence.failed(sequence.fault)]
        sequence.append(token)
        if token in sequence.request.eos_token_ids:
            return [self._end(sequence, "stop", now)]
        produced = TokenProduced(sequence.request_id, token, known)
        full = len(sequence.request.prompt) + len(sequence.generated) >= self.kv.context
        if full or len(sequence.generated) >= sequence.request.max_tokens:
            return [produced, self._end(sequence, "length", now)]
        return [produced]

    def _end(self, sequence: Sequence, reason: EndReason, now: float) -> GenerationEnded:
        self._remove(sequence)
        return sequence.ended(reason, now)

    def _remove(self, sequence: Sequence, *, keep: bool = True) -> None:
        if sequence.row < 0:
            self.waiting.remove(sequence)
            return
        if self.decoding.get(sequence.row) is sequence:
            del self.decoding[sequence.row]
        else:
            self.prefilling.remove(sequence)
        held = (*sequence.request.prompt, *sequence.generated)[: self.kv.lengths[sequence.row]]
        self.kv.release(sequence.row, held if keep else ())
        sequence.row = -1
