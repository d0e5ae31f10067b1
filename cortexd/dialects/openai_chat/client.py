"""The client side: server-sent events, or the plain answer, of any OpenAI-compatible server to events.

Parts have no borders of their own on this wire, so a part ends where another kind of delta begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cortexd.dialects.choices import ChoicesDecoder
from cortexd.dialects.decoding import count, malformed, string
from cortexd.dialects.logprobs import decode_logprobs
from cortexd.dialects.openai_errors import decode_error
from cortexd.dialects.usage import decode_timing, decode_usage
from cortexd.protocol.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
)

MOST_CHOICES = 128


class StreamDecoder(ChoicesDecoder):
    """Feed bytes as they come, cut anywhere, then ``close``. The events follow ``protocol.grammar``."""

    def __init__(self) -> None:
        super().__init__()
        self._call: dict[int, int] = {}

    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        if body.get("error") is not None:
            yield from self._fail(decode_error(body, 502))
            return
        usage = decode_usage(body["usage"]) if body.get("usage") is not None else None
        known = usage if body.get("choices") else None
        yield from self._start(
            Started(str(body.get("id", "")), str(body.get("model", "")), count(body.get("created")), known)
        )
        self._usage = usage or self._usage
        self._timing = decode_timing(body.get("timing")) or self._timing
        for choice in body.get("choices") or []:
            index = self._index(choice, MOST_CHOICES)
            yield from self._delta(index, choice.get("delta") or {}, choice.get("logprobs") or {})
            self._note_end(index, choice)

    def _delta(self, choice: int, delta: dict[str, Any], logprobs: dict[str, Any]) -> Iterator[Event]:
        # two names for the same thing are in use; a server that sends both means it once
        if text := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self._within("reasoning", choice)
            yield ReasoningDelta(string(text), choice)
        if signature := delta.get("reasoning_signature"):
            yield from self._sign(string(signature), choice)
        tokens = decode_logprobs(logprobs.get("content"))
        if (text := delta.get("content")) or tokens:
            yield from self._within("text", choice)
            yield TextDelta(string(text or ""), choice, tokens)
        if text := delta.get("refusal"):
            yield from self._within("refusal", choice)
            yield RefusalDelta(string(text), choice)
        for call in delta.get("tool_calls") or []:
            yield from self._tool_call(choice, call)

    def _tool_call(self, choice: int, call: dict[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        index = count(call.get("index"))
        part = self._open.get(choice)
        if part is None or part.kind != "tool_call" or self._call.get(choice) != index:
            yield from self._part("tool_call", str(call.get("id") or ""), str(function.get("name") or ""), choice)
            self._call[choice] = index
        if arguments := function.get("arguments"):
            yield ToolArgumentsDelta(string(arguments), choice)


def decode_response(body: Any) -> list[Event]:
    """The events of a plain answer; a last ``Failed`` when it makes no sense."""
    return _Plain().whole(body)


class _Plain(StreamDecoder):
    """A plain answer is one chunk whose deltas are called messages, and then the end."""

    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        if body.get("error") is None and not isinstance(body.get("choices"), list):
            yield from self._fail(malformed("the answer is no chat completion"))
            return
        choices = []
        for choice in body.get("choices") or []:
            message = dict(choice.get("message") or {})
            message["tool_calls"] = [call | {"index": i} for i, call in enumerate(message.get("tool_calls") or [])]
            choices.append(choice | {"delta": message})
        for event in super()._payload(body | {"choices": choices}):
            # the counts of a whole answer are not what was known at its start
            yield Started(event.id, event.model, event.created) if isinstance(event, Started) else event
