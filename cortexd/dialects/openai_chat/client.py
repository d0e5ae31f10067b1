"""The client side: server-sent events of any OpenAI-compatible server to events.

Parts have no borders of their own on this wire, so a part ends where another kind of delta begins.
"""

from __future__ import annotations

import json
from typing import Any

from cortexd.dialects.openai_chat.errors import decode_error
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PartEnded,
    PartKind,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    Timing,
    ToolArgumentsDelta,
    Usage,
)

_REASONS: tuple[FinishReason, ...] = ("stop", "length", "tool_calls", "content_filter")


class StreamDecoder:
    """Feed bytes as they come, then ``close``. The events follow ``protocol.grammar``."""

    def __init__(self) -> None:
        self._buffer = b""
        self._open: PartStarted | None = None
        self._call: int | None = None
        self._parts = 0
        self._started = False
        self._ended = False
        self._reason: FinishReason | None = None
        self._usage = Usage(0, 0)
        self._timing: Timing | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        self._buffer += data.replace(b"\r\n", b"\n")
        events: list[Event] = []
        while b"\n\n" in self._buffer:
            block, self._buffer = self._buffer.split(b"\n\n", 1)
            lines = [line[5:].lstrip(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
            if lines and not self._ended:
                events += self._event(b"\n".join(lines))
        return events

    def close(self) -> list[Event]:
        """The end of the bytes: a stream that has not said its end was cut."""
        if self._ended:
            return []
        if self._reason is not None:
            return self._finish()
        return self._fail(ApiError(502, "api_error", "upstream_read_failed", "the stream ended before its end"))

    def _event(self, data: bytes) -> list[Event]:
        if data == b"[DONE]":
            return self.close()
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            error = ApiError(
                502, "api_error", "upstream_malformed_response", "the stream holds an event that is no JSON"
            )
            return self._fail(error)
        if "error" in body:
            return self._fail(decode_error(body, 502))
        events: list[Event] = []
        if not self._started:
            self._started = True
            created = body.get("created")
            events.append(Started(str(body.get("id", "")), str(body.get("model", "")), int(created or 0)))
        if isinstance(usage := body.get("usage"), dict):
            self._usage = _usage(usage)
        if isinstance(timing := body.get("timing"), dict):
            self._timing = Timing(*(float(timing.get(key, 0)) for key in ("queue_s", "prefill_s", "decode_s")))
        for choice in body.get("choices") or []:
            events += self._delta(choice.get("delta") or {})
            if (reason := choice.get("finish_reason")) is not None:
                self._reason = reason if reason in _REASONS else "stop"
        return events

    def _delta(self, delta: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        if text := delta.get("reasoning_content"):
            events += [*self._part("reasoning"), ReasoningDelta(text)]
        if text := delta.get("content"):
            events += [*self._part("text"), TextDelta(text)]
        for call in delta.get("tool_calls") or []:
            function = call.get("function") or {}
            index = int(call.get("index", 0))
            if self._open is None or self._open.kind != "tool_call" or self._call != index:
                events += self._part("tool_call", str(call.get("id") or ""), str(function.get("name") or ""))
                self._call = index
            if arguments := function.get("arguments"):
                events.append(ToolArgumentsDelta(arguments))
        return events

    def _part(self, kind: PartKind, id: str | None = None, name: str | None = None) -> list[Event]:
        if self._open is not None and self._open.kind == kind and kind != "tool_call":
            return []
        ended = self._end_part()
        self._open = PartStarted(self._parts, kind, id, name)
        self._parts += 1
        return [*ended, self._open]

    def _end_part(self) -> list[Event]:
        if self._open is None:
            return []
        ended = PartEnded(self._open.index)
        self._open = None
        return [ended]

    def _finish(self) -> list[Event]:
        self._ended = True
        return [*self._end_part(), Finished(self._reason or "stop", self._usage, self._timing)]

    def _fail(self, error: ApiError) -> list[Event]:
        self._ended = True
        return [*self._end_part(), Failed(error)]


def _usage(raw: dict[str, Any]) -> Usage:
    prompt, completion = (raw.get(key) or {} for key in ("prompt_tokens_details", "completion_tokens_details"))
    return Usage(
        int(raw.get("prompt_tokens") or 0),
        int(raw.get("completion_tokens") or 0),
        int(prompt.get("cached_tokens") or 0),
        int(completion.get("reasoning_tokens") or 0),
    )
