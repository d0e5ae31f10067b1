"""What a request adds to the logits before a token is chosen: a bias, and penalties for tokens that were there before.

Only tokens that occurred are touched, so a step costs as much as the text is rich, not as the vocabulary is large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Adjustment:
    """``repetition`` divides (or, below zero, multiplies) the logit of each token of prompt and answer; 1 is nothing.

    ``presence`` is subtracted once from each token of the answer, ``frequency`` as often as it occurs there. ``bias``
    pairs token ids with what is added.
    """

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it depends on which tokens were there."""
        return (self.repetition, self.presence, self.frequency) != (1.0, 0.0, 0.0)

    @property
    def nothing(self) -> bool:
        return not (self.counts or self.bias)


NOTHING = Adjustment()


class Adjuster:
    """An Adjustment with the tokens of one sequence so far."""

    def __init__(self, adjustment: Adjustment, prompt: Iterable[int]) -> None:
        self._wanted = adjustment
        self._bias_ids = np.array([token for token, _ in adjustment.bias], np.intp)
        self._bias = np.array([bias for _, bias in adjustment.bias], np.float32)
        before = prompt if adjustment.repetition != 1.0 else ()
        self._place: dict[int, int] = {}
        self._ids = np.zeros(64, np.intp)
        self._times = np.zeros(64, np.float32)  # in the answer; 0 for tokens of the prompt alone
        for token in before:
            self._find(token)

    def add(self, token: int) -> None:
        """``token`` was generated."""
        if self._wanted.counts:
            place = self._find(token)  # may make room: only then are the arrays the right ones
            self._times[place] += 1

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The adjusted logits, a copy; repetition first, then what is subtracted, then the bias."""
        wanted, changed = self._wanted, logits.copy()
        if count := len(self._place):
            ids, times = self._ids[:count], self._times[:count]
            there = changed[ids]
            if wanted.repetition != 1.0:
                factor = np.float32(wanted.repetition)
                there = np.where(there > 0, there / factor, there * factor)
            there -= np.float32(wanted.frequency) * times + np.float32(wanted.presence) * (times > 0)
            changed[ids] = there
        if len(self._bias_ids):
            # a token may be named once only, so that this adds to each
            changed[self._bias_ids] += self._bias
        return changed

    def _find(self, token: int) -> int:
        place = self._place.get(token)
        if place is None:
            place = self._place[token] = len(self._place)
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
                self._times = np.concatenate([self._times, np.zeros_like(self._times)])
            self._ids[place] = token
        return place
