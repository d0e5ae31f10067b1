"""What the grammars of all wires raise."""

from __future__ import annotations


class WireError(AssertionError):
    """A stream that a client of its dialect may choke on. A programmer's mistake, never a client's."""
