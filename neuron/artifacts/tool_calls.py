"""Tool calls in the text of a model: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` (the Hermes form).

Incremental: text that may be the beginning of a call is held back, a whole call becomes events, and what looks like a
call but is none stays text, so nothing that the model said is lost.
"""

from __future__ import annotations

import json
import re

from cortexd.protocol.events import Event, PartEnded, PartStarted, TextDelta, TokenLogprob, ToolArgumentsDelta

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# A quote that begins or ends a JSON string.
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')


class ToolCallParser:
    """Text to part events of one choice. ``calls`` counts the calls found; ``enabled`` false passes all on as text.

    Logprobs go with the text that comes out next; those of a call are dropped with its markup.
    """

    def __init__(self, request_id: str, *, enabled: bool, choice: int = 0) -> None:
        self._id = request_id
        self._enabled = enabled
        self._held = ""
        self._parts = 0
        self._text_open = False
        self._choice = choice
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self.calls = 0

    def skip_part(self) -> int:
        """The number of a part that somebody else says; before the first of this parser."""
        self._parts += 1
        return self._parts - 1

    def push(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> list[Event]:
        """Events that this text completes; ``logprobs`` are of its tokens."""
        self._logprobs += logprobs
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
            end = _close(self._held, start + len(OPEN))
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
        if not text and (self._held or not self._logprobs):
            return []
        # line breaks between calls, and before the first, belong to the markup
        if self._enabled and not self._text_open and self.calls and not text.strip():
            return []
        started: list[Event] = []
        if not self._text_open:
            self._text_open = True
            started = [PartStarted(self._parts, "text", choice=self._choice)]
            self._parts += 1
        logprobs, self._logprobs = self._logprobs, ()
        return [*started, TextDelta(text, self._choice, logprobs)]

    def _end_text(self) -> list[Event]:
        if not self._text_open:
            return []
        self._text_open = False
        return [PartEnded(self._parts - 1, self._choice)]

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
        self._logprobs = ()
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        started = PartStarted(index, "tool_call", f"call_{self._id}_{self.calls - 1}", name, self._choice)
        return [*ended, started, ToolArgumentsDelta(text, self._choice), PartEnded(index, self._choice)]


def _close(text: str, start: int) -> int:
    """Where the call that begins at ``start`` is closed; -1: not yet. The mark within a JSON string closes nothing."""
    end = text.find(CLOSE, start)
    while end >= 0 and len(_QUOTE.findall(text, start, end)) % 2:
        end = text.find(CLOSE, end + len(CLOSE))
    return end


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of ``text`` that begins ``marker``."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)
