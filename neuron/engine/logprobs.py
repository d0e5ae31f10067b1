"""The model's own opinion of a token: before temperature, penalties and cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuron.engine.sampler import largest, weights_of


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Natural logarithms: of the chosen token, and of the likeliest ones of its place, best first."""

    chosen: float
    top: tuple[tuple[int, float], ...]


def logprobs(logits: NDArray[np.float32], token: int, count: int) -> Logprobs:
    """Of ``token`` and of the ``count`` likeliest tokens of ``logits`` [vocab]."""
    best = logits.max()
    total = float(best) + float(np.log(weights_of(logits, best, 1.0).sum()))
    ids = largest(logits, count) if count else ()
    return Logprobs(float(logits[token]) - total, tuple((int(i), float(logits[i]) - total) for i in ids))
