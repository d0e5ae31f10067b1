"""Tool calls in the text of a model: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` (the Hermes form).

Incremental: text that may be the beginning of a call is held back, a whole call becomes events, and what looks like a
call but is none stays text, so nothing that the model said is lost.
"""

from __future__ import annotations

import json

from cortexd.protocol.events import Event, PartEnded, PartStarted, TextDelta, ToolArgumentsDelta

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class ToolCallParser:
    """Text to part events. ``calls`` counts the calls found; ``enabled`` false passes everything on as text."""

    def __init__(self, request_id: str, *, enabled: bool) -> None:
        self._id = request_id
        self._enabled = enabled
        self._held = ""
        self._parts = 0
        self._text_open = False
        self.calls = 0

    def push(self, text: str) -> list[Event]:
        """Events that this text completes."""
        if not self._enabled:
            return self._text(text)
        self._held += text
        events: list[Event] = []
        while True:
            start = self._held.find(OPEN)
            if start < 0:
                keep = _overlap(self._held, OPEN)
                events += self._text(self._held[: len(self._held) - keep])
                self._held = self._held[len(self._held) - keep :]
                return events
            end = self._held.find(CLOSE, start)
            events += self._text(self._held[:start])
            self._held = self._held[start:]
            if end < 0:
                return events
            body, self._held = self._held[: end - start + len(CLOSE)], self._held[end - start + len(CLOSE) :]
            events += self._call(body)

    def finish(self) -> list[Event]:
        """What was held back, as text, and the end of the open part."""
        events = self._text(self._held)
        self._held = ""
        return events + self._end_text()

    def _text(self, text: str) -> list[Event]:
        # line breaks between calls, and before the first, belong to the markup
        if not text or (self._enabled and not self._text_open and self.calls and not text.strip()):
            return []
        started: list[Event] = []
        if not self._text_open:
            self._text_open = True
            started = [PartStarted(self._parts, "text")]
            self._parts += 1
        return [*started, TextDelta(text)]

    def _end_text(self) -> list[Event]:
        if not self._text_open:
            return []
        self._text_open = False
        return [PartEnded(self._parts - 1)]

    def _call(self, markup: str) -> list[Event]:
        try:
            call = json.loads(markup[len(OPEN) : -len(CLOSE)])
            name, arguments = call["name"], call.get("arguments", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._text(markup)
        if not isinstance(name, str):
            return self._text(markup)
        ended = self._end_text()
        index = self._parts
        self._parts += 1
        self.calls += 1
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        started = PartStarted(index, "tool_call", f"call_{self._id}_{self.calls - 1}", name)
        return [*ended, started, ToolArgumentsDelta(text), PartEnded(index)]


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of ``text`` that begins ``marker``."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)
