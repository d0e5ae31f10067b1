"""From logits to a token. A plan is prepared once per request; each sequence draws from its own generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cortexd.protocol.request import Sampling

# How many candidates top_p looks at before it sorts the whole vocabulary: nearly always enough, and 10 x cheaper.
_NUCLEUS_GUESS = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 cut nothing; ``seed`` None lets the engine choose."""

    temperature: float
    top_k: int
    top_p: float
    seed: int | None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


ENGINE_DEFAULTS = Sampling(temperature=1.0, top_p=1.0, top_k=0)


def prepare(sampling: Sampling, defaults: Sampling = ENGINE_DEFAULTS) -> Plan:
    """The request's values, else the model's ``defaults``, else the engine's. Raises ValueError for a value that
    means nothing; the dialects refuse those earlier and in the client's words."""

    def pick(name: str) -> float:
        for source in (sampling, defaults, ENGINE_DEFAULTS):
            value: float | None = getattr(source, name)
            if value is not None:
                return value
        raise AssertionError(name)

    temperature, top_p, top_k = float(pick("temperature")), float(pick("top_p")), int(pick("top_k"))
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be a finite number of at least 0, not {temperature}")
    if not 0.0 <= top_p <= 1.0:
        raise ValueError(f"top_p must be between 0 and 1, not {top_p}")
    # -1 is how some clients write "no limit"
    if top_k < -1:
        raise ValueError(f"top_k must be at least 1, or 0 for no limit, not {top_k}")
    seed = sampling.seed if sampling.seed is not None else defaults.seed
    return Plan(temperature, max(top_k, 0), top_p, seed)


def choose(logits: NDArray[np.float32], plan: Plan, random: np.random.Generator) -> int | None:
    """The next token from the logits ``[vocab]``, or None where they hold no usable number.

    One draw from ``random`` per sampled token whatever the outcome, so a sequence depends on its own seed only.
    """
    if not np.isfinite(logits.max()):  # NaN spreads to the maximum; -inf alone is a masked token
        return None
    if plan.greedy:
        return int(logits.argmax())
    candidates = _candidates(logits, plan)
    weights = _weights(logits if candidates is None else logits[candidates], plan.temperature)
    cumulative = np.cumsum(weights)
    picked = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
    picked = min(picked, len(cumulative) - 1)
    return picked if candidates is None else int(candidates[picked])


def _candidates(logits: NDArray[np.float32], plan: Plan) -> NDArray[np.intp] | None:
    """Token ids, likeliest first, that top_k and then top_p leave; None for the whole vocabulary in its own order."""
    vocab = len(logits)
    if 0 < plan.top_k < vocab:
        ids = _largest(logits, plan.top_k)
        total = _weights(logits[ids], plan.temperature).sum()
    elif plan.top_p >= 1.0:
        return None
    else:
        total = _weights(logits, plan.temperature).sum()
        ids = _largest(logits, _NUCLEUS_GUESS)
        if _weights(logits[ids], plan.temperature).sum() < plan.top_p * total:
            ids = _largest(logits, vocab)
    if plan.top_p >= 1.0:
        return ids
    shares = np.cumsum(_weights(logits[ids], plan.temperature)) / total
    # the likeliest tokens that reach top_p together, and always one
    return ids[: int(np.searchsorted(shares, plan.top_p, side="left")) + 1]


def _largest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids of the ``count`` largest, sorted by value and then by id, so that ties do not depend on the partition."""
    if count >= len(logits):
        found = np.arange(len(logits))
    else:
        # everything that ties with the last one competes by id
        border = np.partition(logits, len(logits) - count)[len(logits) - count]
        found = np.flatnonzero(logits >= border)
    return found[np.lexsort((found, -logits[found]))][:count]


def _weights(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities but for a common factor: the largest logit weighs 1.

    In float64, because sums over 150,000 float32 terms lose the tail.
    """
    shifted = logits.astype(np.float64) - float(logits.max())
    # a tiny temperature overflows to -inf for all but the best: the greedy limit, which is right
    with np.errstate(over="ignore"):
        weights: NDArray[np.float64] = np.exp(shifted / temperature)
    return weights
