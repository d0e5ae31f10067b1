"""What the engine needs from a model that is loaded on a device. Called from that device's thread only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cortexd.protocol.manifest import Manifest

Logits = NDArray[np.float32]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What to open, and where. ``artifact`` is a folder whose files were verified against ``manifest`` before.

    ``rows`` sequences fit at once, each of up to ``context`` tokens. ``threads`` is for kind ``cpu`` only.
    """

    artifact: Path
    manifest: Manifest
    rows: int
    context: int
    kind: Literal["cpu", "cuda"]
    index: int
    threads: int


class SessionError(Exception):
    """The model or its device failed. ``poisons``: nothing on this device will work again in this process."""

    def __init__(self, message: str, *, poisons: bool = False) -> None:
        super().__init__(message)
        self.poisons = poisons


class Session(Protocol):
    """A model with a KV pool of ``rows`` rows of ``context`` tokens, allocated once.

    The caller keeps the books: which row holds how many tokens. The session keeps nothing between calls but the pool.
    Both calls raise SessionError.
    """

    rows: int
    context: int
    vocab: int
    kv_bytes: int
    max_chunk: int
    """The most tokens that one ``prefill`` takes: bounds the memory that attention needs for its scores."""

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        """Write ``tokens`` at positions ``start``... of ``row``; the logits ``[vocab]`` after the last one."""
        ...

    def decode(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Logits:
        """One token more for each of the rows ``0..n-1``, at position ``lengths[row]``; logits ``[n, vocab]``."""
        ...

    def warm(self, limit_s: float) -> int | None:
        """Before the first request: run the largest calls once, so that all memory they need is taken.

        Returns the bytes of the KV pool that this wrote to; None if it was not run: it would take more than
        ``limit_s`` seconds, or there is nothing real to run. Raises SessionError, for example when memory is short.
        """
        ...

    def close(self) -> None:
        """Give the memory back. No call may follow."""
        ...


class Encoder(Protocol):
    """A model that makes vectors of texts. It keeps nothing between calls. ``kv_bytes`` is 0."""

    context: int
    vocab: int
    dimensions: int
    kv_bytes: int

    def most(self, length: int) -> int:
        """How many texts of ``length`` tokens one call takes: at least 1."""
        ...

    def embed(self, tokens: NDArray[np.int64]) -> Vectors:
        """Normalised vectors ``[B, dimensions]`` of the texts ``tokens`` [B, T]. Raises SessionError."""
        ...

    def warm(self, limit_s: float) -> int | None:
        """As in ``Session``."""
        ...

    def close(self) -> None:
        """As in ``Session``."""
        ...


SessionFactory = Callable[[SessionSpec], Session | Encoder]
