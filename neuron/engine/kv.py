"""Who owns which row of the KV pool, and how many tokens it holds. Plain accounting: the memory is the session's."""

from __future__ import annotations

from collections.abc import Iterable


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

    def acquire(self, tokens: int) -> int | None:
        """The lowest free row, for up to ``tokens`` tokens; None while there is no row or no room.

        Lowest first, because a decode step computes every row up to the highest one in use.
        """
        if tokens > self.context:
            raise KvCorrupt(f"{tokens} tokens promised to a row of {self.context}")
        # a sequence that alone exceeds the capacity would wait for ever: it may run alone
        if self.in_use and self.promised + tokens > self.capacity:
            return None
        for row, promised in enumerate(self._promised):
            if promised is None:
                self._promised[row] = tokens
                return row
        return None

    def grow(self, row: int, tokens: int) -> None:
        """``tokens`` more lie in ``row``."""
        promised = self._promised[row]
        if promised is None or self.lengths[row] + tokens > promised:
            raise KvCorrupt(f"row {row} holds {self.lengths[row]} tokens of {promised} promised and got {tokens} more")
        self.lengths[row] += tokens

    def release(self, row: int) -> None:
        """The row is free; its content is garbage from now on."""
        if self._promised[row] is None:
            raise KvCorrupt(f"row {row} is released twice")
        self._promised[row] = None
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
