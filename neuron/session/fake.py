"""A session without a model, for tests: the next token is a function of the row's tokens, faults come on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuron.session.base import Logits, SessionError, SessionSpec

POISON = -1
"""What the cache holds where nothing was written: reading it is a fault of the caller, and raises."""


class FakeSession:
    """Remembers the tokens of every row, so that a wrong position or row gives another answer, or an error.

    ``next_token`` maps the tokens of a row to the likeliest next one (default: a hash of all of them). ``latency_s``
    is slept per call. ``fault``, when set, is raised by the next call and then forgotten.
    """

    def __init__(
        self,
        spec: SessionSpec,
        *,
        next_token: Callable[[Sequence[int]], int] | None = None,
        latency_s: float = 0.0,
        max_chunk: int = 8,
    ) -> None:
        self.rows = spec.rows
        self.context = spec.context
        self.vocab = spec.manifest.vocab
        self.kv_bytes = spec.rows * spec.context * spec.manifest.kv_bytes_per_token
        self.max_chunk = max_chunk
        self.latency_s = latency_s
        self.fault: SessionError | None = None
        self.calls: list[tuple[str, int]] = []
        self.closed = False
        self._next = next_token or self._hash
        self._cache = np.full((spec.rows, spec.context), POISON, np.int64)

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        """As in ``Session``; more than ``max_chunk`` tokens are an error."""
        self._enter("prefill", len(tokens))
        if len(tokens) > self.max_chunk:
            raise SessionError(f"a chunk of {len(tokens)} tokens, {self.max_chunk} allowed")
        self._cache[row, start : start + len(tokens)] = tokens
        return self._logits(row, start + len(tokens))

    def decode(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Logits:
        """As in ``Session``."""
        self._enter("decode", len(tokens))
        rows = range(len(tokens))
        for row in rows:
            self._cache[row, lengths[row]] = tokens[row]
        return np.stack([self._logits(row, int(lengths[row]) + 1) for row in rows])

    def warm(self, limit_s: float) -> int | None:
        """There is nothing real to run."""
        return None

    def close(self) -> None:
        """Further calls raise."""
        self.closed = True

    def _enter(self, call: str, size: int) -> None:
        if self.closed:
            raise SessionError(f"{call} after close")
        self.calls.append((call, size))
        if self.latency_s:
            time.sleep(self.latency_s)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def _logits(self, row: int, length: int) -> Logits:
        tokens = self._cache[row, :length]
        if (tokens == POISON).any():
            raise SessionError(f"row {row} is read at a position that was never written")
        best = self._next(tokens.tolist()) % self.vocab
        # a smooth slope away from the best token, so that sampling has something to choose from
        distance = (np.arange(self.vocab) - best) % self.vocab
        return (-0.5 * distance).astype(np.float32)

    @staticmethod
    def _hash(tokens: Sequence[int]) -> int:
        state = 2166136261
        for token in tokens:
            state = ((state ^ token) * 16777619) & 0xFFFFFFFF
        return state >> 7
