"""``Started (PartStarted Delta* PartEnded)* (Finished | Failed)``, executable.

Each choice follows it on its own. ``Failed`` may also cut open parts, or come first (a request refused before it
started).
"""

from __future__ import annotations

from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
)

_DELTA = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    ReasoningSignature: "reasoning",
    RefusalDelta: "refusal",
    ToolArgumentsDelta: "tool_call",
}


class GrammarError(AssertionError):
    """An event that may not come here. A programmer's mistake, never a client's."""


class Grammar:
    """Feed every event to ``check``; ``ended`` tells whether the stream is whole."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self._open: dict[int, PartStarted] = {}
        self._signed: set[int] = set()
        self._parts: dict[int, int] = {}

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
                self._require(self.started and not self._open, event)
                self._require(max(self._parts, default=0) <= len(event.others), event)
                self.ended = True
            case PartStarted():
                count = self._parts.get(event.choice, 0)
                self._require(self.started and event.choice not in self._open and event.index == count, event)
                self._open[event.choice] = event
                self._parts[event.choice] = count + 1
            case PartEnded():
                part = self._open.pop(event.choice, None)
                self._require(part is not None and event.index == part.index, event)
                self._signed.discard(event.choice)
            case _:
                part = self._open.get(event.choice)
                self._require(part is not None and part.kind == _DELTA[type(event)], event)
                self._require(event.choice not in self._signed, event)
                if isinstance(event, ReasoningSignature):
                    self._signed.add(event.choice)

    def _require(self, condition: bool, event: Event) -> None:
        if not condition:
            raise GrammarError(f"{event!r} may not come here (open parts: {list(self._open.values())!r})")
