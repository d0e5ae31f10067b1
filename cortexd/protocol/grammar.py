"""``Started (PartStarted Delta* PartEnded)* (Finished | Failed)``, executable.

``Failed`` may also cut an open part, or come first (a request refused before it started).
"""

from __future__ import annotations

from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
)

_DELTA = {TextDelta: "text", ReasoningDelta: "reasoning", ToolArgumentsDelta: "tool_call"}


class GrammarError(AssertionError):
    """An event that may not come here. A programmer's mistake, never a client's."""


class Grammar:
    """Feed every event to ``check``; ``ended`` tells whether the stream is whole."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self._open: PartStarted | None = None
        self._next_index = 0

    def check(self, event: Event) -> None:
        """Accept the event or raise GrammarError."""
        if self.ended:
            raise GrammarError(f"{event!r} after the end")
        match event:
            case Started():
                self._require(not self.started, event)
                self.started = True
            case Failed():
                self.ended = True
            case Finished():
                self._require(self.started and self._open is None, event)
                self.ended = True
            case PartStarted():
                self._require(self.started and self._open is None and event.index == self._next_index, event)
                self._open = event
                self._next_index += 1
            case PartEnded():
                self._require(self._open is not None and event.index == self._open.index, event)
                self._open = None
            case TextDelta() | ReasoningDelta() | ToolArgumentsDelta():
                self._require(self._open is not None and self._open.kind == _DELTA[type(event)], event)

    def _require(self, condition: bool, event: Event) -> None:
        if not condition:
            raise GrammarError(f"{event!r} may not come here (open part: {self._open!r})")
