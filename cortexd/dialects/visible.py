"""Leaving reasoning out of an answer, for clients that did not ask for it and take the first part for the text."""

from __future__ import annotations

from dataclasses import replace

from cortexd.protocol.events import Event, PartEnded, PartStarted, ReasoningDelta, ReasoningSignature


class WithoutReasoning:
    """Feed every event of one stream; what is left counts its parts from 0. Usage still counts what was thought."""

    def __init__(self) -> None:
        self._left_out: dict[int, int] = {}
        self._hidden: set[int] = set()

    def pass_on(self, event: Event) -> Event | None:
        """The event that the client gets, or None."""
        match event:
            case PartStarted(kind="reasoning"):
                self._hidden.add(event.choice)
                self._left_out[event.choice] = self._left_out.get(event.choice, 0) + 1
                return None
            case ReasoningDelta() | ReasoningSignature():
                return None
            case PartEnded() if event.choice in self._hidden:
                self._hidden.discard(event.choice)
                return None
            case PartStarted() | PartEnded():
                return replace(event, index=event.index - self._left_out.get(event.choice, 0))
            case _:
                return event
