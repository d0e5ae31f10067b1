"""The client side: Anthropic's stream, or its plain answer, to events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from cortexd.dialects.anthropic_messages.errors import decode_error
from cortexd.dialects.decoding import Decoder, count, malformed, string
from cortexd.dialects.finish import from_anthropic
from cortexd.protocol.events import (
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)

# A thinking block that only its maker can read travels as an opaque signature of an empty one.
REDACTED = "redacted_thinking:"


class StreamDecoder(Decoder):
    """Feed bytes as they come, cut anywhere, then ``close``. Unknown kinds of events and deltas are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._stop: dict[str, Any] | None = None

    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        kind = body.get("type")
        if kind == "error":
            yield from self._fail(decode_error(body, 502))
        elif kind == "message_start":
            message = body["message"]
            self._usage = message.get("usage") or {}
            yield from self._start(_started(message, self._usage))
        elif kind in _AFTER_START and not self._started:
            yield from self._fail(malformed("the stream does not begin with message_start"))
        elif kind == "content_block_start":
            yield from self._block(body["content_block"])
        elif kind == "content_block_delta":
            yield from self._delta(body["delta"])
        elif kind == "content_block_stop":
            yield from self._end_part()
        elif kind == "message_delta":
            self._stop = body["delta"]
            self._usage = self._usage | {k: v for k, v in (body.get("usage") or {}).items() if v is not None}
        elif kind == "message_stop":
            yield from self._stopped()

    def _closed(self) -> list[Event]:
        # everything was said but the goodbye
        return super()._closed() if self._stop is None else list(self._stopped())

    def _stopped(self) -> Iterator[Event]:
        yield from self._finish(_finished(self._stop or {}, self._usage))

    def _block(self, block: dict[str, Any]) -> Iterator[Event]:
        match block.get("type"):
            case "text":
                yield from self._part("text")
                if block.get("text"):
                    yield TextDelta(string(block["text"]))
            case "thinking":
                yield from self._part("reasoning")
                if block.get("thinking"):
                    yield ReasoningDelta(string(block["thinking"]))
                if block.get("signature"):
                    yield from self._sign(string(block["signature"]))
            case "redacted_thinking":
                yield from self._part("reasoning")
                yield from self._sign(REDACTED + string(block["data"]))
            case "tool_use":
                yield from self._part("tool_call", string(block["id"]), string(block["name"]))
                if block.get("input"):
                    yield ToolArgumentsDelta(orjson.dumps(block["input"]).decode())
            case _:
                # a block that we have no event for: nothing of it is passed on
                yield from self._end_part()

    def _delta(self, delta: dict[str, Any]) -> Iterator[Event]:
        match delta.get("type"):
            case "text_delta":
                yield from self._within("text")
                yield TextDelta(string(delta["text"]))
            case "thinking_delta":
                yield from self._within("reasoning")
                yield ReasoningDelta(string(delta["thinking"]))
            case "signature_delta":
                yield from self._sign(string(delta["signature"]))
            case "input_json_delta" if (part := self._open.get(0)) is not None and part.kind == "tool_call":
                if delta["partial_json"]:
                    yield ToolArgumentsDelta(string(delta["partial_json"]))


_AFTER_START = {"content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}


def decode_response(body: Any) -> list[Event]:
    """The events of a plain answer; a last ``Failed`` when it makes no sense."""
    return _Plain().whole(body)


class _Plain(StreamDecoder):
    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        if body.get("type") != "message":
            yield from self._fail(decode_error(body, 502) if "error" in body else malformed("the answer is no message"))
            return
        usage = body.get("usage") or {}
        yield from self._start(_started(body, {}))
        for block in body["content"]:
            yield from self._block(block)
            yield from self._end_part()
        yield from self._finish(_finished(body, usage))


def _started(message: dict[str, Any], usage: dict[str, Any]) -> Started:
    known = _usage(usage)
    empty = known == Usage(0, 0)
    return Started(str(message.get("id", "")), str(message.get("model", "")), 0, None if empty else known)


def _finished(stop: dict[str, Any], usage: dict[str, Any]) -> Finished:
    sequence = stop.get("stop_sequence")
    return Finished(
        from_anthropic(str(stop.get("stop_reason"))),
        _usage(usage),
        stop_sequence=None if sequence is None else string(sequence),
    )


def _usage(raw: dict[str, Any]) -> Usage:
    cached, written = count(raw.get("cache_read_input_tokens")), count(raw.get("cache_creation_input_tokens"))
    return Usage(
        count(raw.get("input_tokens")) + cached + written,
        count(raw.get("output_tokens")),
        cached,
        count((raw.get("output_tokens_details") or {}).get("thinking_tokens")),
    )
