"""From logits to a token. A plan is prepared once per request; each sequence draws from its own generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cortexd.protocol.request import Sampling
from neuron.engine.penalties import NOTHING, Adjustment

_BLOCK = 128
# Weights (the likeliest token has 1) above which the nucleus is looked for before the whole vocabulary is sorted.
_GUESSES = (np.float32(1e-2), np.float32(1e-3), np.float32(1e-4))
# Not zero as a float32.
_COLDEST = 1e-30


@dataclass(frozen=True, slots=True)
class Plan:
    """``temperature`` 0 is greedy; ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 cut nothing; ``seed`` None lets the engine
    choose. ``adjustment`` changes the logits before all of these."""

    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    min_p: float = 0.0
    adjustment: Adjustment = NOTHING

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


ENGINE_DEFAULTS = Sampling(
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)


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
    min_p = float(pick("min_p"))
    if not 0.0 <= min_p <= 1.0:
        raise ValueError(f"min_p must be between 0 and 1, not {min_p}")
    repetition = float(pick("repetition_penalty"))
    if not 0.0 < repetition < float("inf"):
        raise ValueError(f"repetition_penalty must be a finite number above 0, not {repetition}")
    presence, frequency = float(pick("presence_penalty")), float(pick("frequency_penalty"))
    for name, value in (("presence_penalty", presence), ("frequency_penalty", frequency)):
        if not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}")
    bias = sampling.logit_bias or defaults.logit_bias
    if len({token for token, _ in bias}) != len(bias) or not np.isfinite([b for _, b in bias]).all():
        raise ValueError("logit_bias must name each token once, with a finite number")
    return Plan(
        temperature, max(top_k, 0), top_p, seed, min_p, Adjustment(repetition, presence, frequency, tuple(bias))
    )


def choose(logits: NDArray[np.float32], plan: Plan, random: np.random.Generator) -> int | None:
    """The next token from the logits ``[vocab]``, or None where they hold no usable number.

    One draw from ``random`` per sampled token whatever the outcome, so a sequence depends on its own seed only.
    """
    best = logits.max()
    if not np.isfinite(best):  # NaN spreads to the maximum; -inf alone is a masked token
        return None
    if plan.greedy:
        return int(logits.argmax())
    ids: NDArray[np.intp] | None = None
    if 0 < plan.top_k < len(logits):
        ids = np.sort(largest(logits, plan.top_k))
        logits = logits[ids]
    weights = weights_of(logits, best, plan.temperature)
    if plan.top_p < 1.0:
        nucleus = _nucleus(weights, plan.top_p)
        ids, weights = nucleus if ids is None else ids[nucleus], weights[nucleus]
    if plan.min_p > 0.0:
        # the largest weighs 1, so this is a share of the likeliest token's probability; that one always stays
        weights = np.where(weights < np.float32(plan.min_p), np.float32(0), weights)
    picked = _pick(weights, random.random())
    return picked if ids is None else int(ids[picked])


def largest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids of the ``count`` largest, sorted by value and then by id, so that ties do not depend on the partition."""
    found = _hopeful(logits, count)
    if count < len(found):
        values = logits[found]
        # everything that ties with the last one competes by id
        border = np.partition(values, len(found) - count)[len(found) - count]
        found = found[values >= border]
    return found[np.lexsort((found, -logits[found]))][:count]


def _hopeful(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Ids, in no order, among which the ``count`` largest are: not many more than these.

    ``count`` blocks have a maximum of at least a border that is therefore at most the ``count``-th largest value, so
    only the blocks that reach it are looked into. A block is every ``blocks``-th token: so maxima are taken over whole
    rows of memory, which is 10 x faster than over runs.
    """
    blocks = len(logits) // _BLOCK
    if count > blocks:
        return np.arange(len(logits))
    maxima = logits[: blocks * _BLOCK].reshape(_BLOCK, blocks).max(axis=0)
    border = np.partition(maxima, blocks - count)[blocks - count]
    inside = np.flatnonzero(maxima >= border) + np.arange(_BLOCK)[:, np.newaxis] * blocks
    found = np.concatenate([inside.ravel(), np.arange(blocks * _BLOCK, len(logits))])
    hopeful: NDArray[np.intp] = found[logits[found] >= border]
    return hopeful


def _nucleus(weights: NDArray[np.float32], top_p: float) -> NDArray[np.intp]:
    """Ids, in their own order, of the likeliest tokens that reach ``top_p`` together, and always one.

    Of tokens with the same weight at the border the first ones stay.
    """
    wanted = top_p * float(weights.sum())
    ids, among = np.arange(len(weights)), weights
    for least in _GUESSES:  # nearly always a few tokens hold it all: then only those are sorted
        likely = np.flatnonzero(weights >= least)
        if float(weights[likely].sum()) > wanted:
            ids, among = likely, weights[likely]
            break
    descending = np.sort(among)[::-1]
    count = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), wanted, side="left")) + 1
    border = descending[min(count, len(descending)) - 1]
    stay = among > border
    ties = np.flatnonzero(among == border)[: count - int(stay.sum())]
    stay[ties] = True
    nucleus: NDArray[np.intp] = ids[stay]
    return nucleus


def _pick(weights: NDArray[np.float32], share: float) -> int:
    """The index at which the running sum of ``weights`` passes ``share`` (0 to 1) of the whole.

    First the block, then the place in it: a running sum over 150,000 numbers would cost more than all the rest.
    """
    starts = np.arange(0, len(weights), _BLOCK)
    running = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    point = share * running[-1]
    block = min(int(np.searchsorted(running, point, side="right")), len(running) - 1)
    inside = weights[starts[block] : starts[block] + _BLOCK]
    before = running[block - 1] if block else 0.0
    place = int(np.searchsorted(before + np.cumsum(inside, dtype=np.float64), point, side="right"))
    if place == len(inside):  # rounding: the last that weighs anything
        place = int(np.flatnonzero(inside)[-1])
    return int(starts[block]) + place


def weights_of(logits: NDArray[np.float32], best: np.float32, temperature: float) -> NDArray[np.float32]:
    """Probabilities but for a common factor: the logit ``best`` weighs 1."""
    # a tiny temperature overflows to -inf for all but the best: the greedy limit, which is right
    with np.errstate(over="ignore", under="ignore"):
        weights = logits - best
        weights *= np.float32(1.0 / max(temperature, _COLDEST))
        np.exp(weights, out=weights)
    return weights
