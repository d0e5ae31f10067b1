"""Who owns which row of the KV pool, and how many tokens it holds. Plain accounting: the memory is the session's.

A row that is given back keeps its tokens until somebody else needs it: whoever comes with the same beginning goes on
from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

# A beginning shorter than this is computed again, rather than have it choose the row.
_WORTH = 16
_NONE = np.zeros(0, np.int64)


class KvCorrupt(AssertionError):
    """The books do not agree: a programmer's mistake, never a client's."""


class KvPool:
    """``rows`` rows of ``context`` tokens; ``capacity`` tokens may be promised at once (default: all of them).

    A row is promised the most tokens that its sequence can come to, so that nothing runs out of room half-way.
    """

    def __init__(self, rows: int, context: int, capacity: int | None = None) -> None:
        if rows < 1 or context < 2:
            raise ValueError(f"a KV pool needs at least 1 row of 2 tokens, not {rows} of {context}")
        self.rows = rows
        self.context = context
        self.capacity = rows * context if capacity is None else capacity
        self.lengths = [0] * rows
        self._promised: list[int | None] = [None] * rows
        self._held: list[NDArray[np.int64]] = [_NONE] * rows  # of rows that nobody owns
        self._left_at = [0] * rows
        self._time = count(1)

    @property
    def promised(self) -> int:
        """Tokens promised to the rows in use."""
        return sum(p for p in self._promised if p is not None)

    @property
    def used(self) -> int:
        """Tokens in the cache that belong to a sequence."""
        return sum(self.lengths)

    @property
    def in_use(self) -> int:
        """Rows that belong to a sequence."""
        return sum(p is not None for p in self._promised)

    def acquire(self, tokens: int, prompt: Sequence[int] = ()) -> int | None:
        """A free row for up to ``tokens`` tokens; None while there is no row or no room.

        ``lengths[row]`` is then the number of tokens of ``prompt`` that the row holds already: never all of them,
        because the last one has to be computed for what comes after it. The row whose kept tokens serve best; else
        one that keeps none, the lowest, because a decode step computes every row up to the highest one in use; else
        the one that was left the longest ago.
        """
        if tokens > self.context:
            raise KvCorrupt(f"{tokens} tokens promised to a row of {self.context}")
        # a sequence that alone exceeds the capacity would wait for ever: it may run alone
        if self.in_use and self.promised + tokens > self.capacity:
            return None
        free = [row for row, promised in enumerate(self._promised) if promised is None]
        if not free:
            return None
        wanted = np.array(prompt[:-1], np.int64)
        row, common = self._best(free, wanted)
        self._promised[row] = tokens
        self._held[row] = _NONE
        self.lengths[row] = common
        return row

    def idle_token(self, row: int) -> int:
        """What a row that nobody owns may have written to position 0 without harm: what is there already."""
        held = self._held[row]
        return int(held[0]) if len(held) else 0

    def _best(self, free: list[int], wanted: NDArray[np.int64]) -> tuple[int, int]:
        """A row, and how many of its first tokens are those of ``wanted``."""
        common = {row: _common(self._held[row], wanted) for row in free}
        # what it saves, less half of what others lose: they may never come back
        worth = {row: n - (len(self._held[row]) - n) / 2 for row, n in common.items() if n >= _WORTH}
        if worth and max(worth.values()) > 0:
            row = max(worth, key=worth.__getitem__)
        else:
            row = min(free, key=lambda r: (len(self._held[r]) > 0, self._left_at[r], r))
        return row, common[row]

    def grow(self, row: int, tokens: int) -> None:
        """``tokens`` more lie in ``row``."""
        promised = self._promised[row]
        if promised is None or self.lengths[row] + tokens > promised:
            raise KvCorrupt(f"row {row} holds {self.lengths[row]} tokens of {promised} promised and got {tokens} more")
        self.lengths[row] += tokens

    def release(self, row: int, held: Sequence[int] = ()) -> None:
        """The row is free. It keeps ``held``, its tokens from the first on; the rest is garbage from now on."""
        if self._promised[row] is None:
            raise KvCorrupt(f"row {row} is released twice")
        if len(held) > self.lengths[row]:
            raise KvCorrupt(f"row {row} holds {self.lengths[row]} tokens, not {len(held)}")
        self._promised[row] = None
        self._held[row] = np.array(held, np.int64)
        self._left_at[row] = next(self._time) if len(held) else 0
        self.lengths[row] = 0

    def check_integrity(self, owned: Iterable[int]) -> None:
        """Raise KvCorrupt unless exactly the ``owned`` rows are in use and every length is within its promise."""
        rows = list(owned)
        if len(set(rows)) != len(rows):
            raise KvCorrupt(f"a row has two owners: {sorted(rows)}")
        in_use = {row for row, promised in enumerate(self._promised) if promised is not None}
        if in_use != set(rows):
            raise KvCorrupt(f"rows in use {sorted(in_use)}, rows owned {sorted(rows)}")
        for row, (length, promised) in enumerate(zip(self.lengths, self._promised, strict=True)):
            if not 0 <= length <= (promised or 0):
                raise KvCorrupt(f"row {row} holds {length} tokens, {promised} promised")
        if self.promised > self.capacity and len(rows) > 1:
            raise KvCorrupt(f"{self.promised} tokens promised of {self.capacity}")


def _common(held: NDArray[np.int64], wanted: NDArray[np.int64]) -> int:
    """Length of the longest common beginning."""
    n = min(len(held), len(wanted))
    different = np.flatnonzero(held[:n] != wanted[:n])
    return int(different[0]) if len(different) else n
