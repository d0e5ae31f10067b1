"""The client side: the stream of a responses server, or its plain answer, to events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cortexd.dialects.decoding import Decoder, count, malformed, string
from cortexd.dialects.finish import from_response
from cortexd.dialects.logprobs import decode_logprobs
from cortexd.dialects.openai_errors import decode_error
from cortexd.dialects.openai_responses.tools import qualified
from cortexd.protocol.events import (
    Event,
    Finished,
    PartKind,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)

_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_PARTS: dict[str, PartKind] = {"output_text": "text", "refusal": "refusal"}


class StreamDecoder(Decoder):
    """Feed bytes as they come, cut anywhere, then ``close``. Unknown kinds of events and items are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = False
        self._summaries = 0
        # whether the open item has shown anything but its frame
        self._silent = True

    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        kind = body.get("type")
        if kind in ("response.created", "response.in_progress", "response.queued"):
            yield from self._start(_started(body["response"]))
        elif kind == "error" or (kind is None and "error" in body):
            yield from self._fail(_error(body.get("error") or body))
        elif kind in _ENDS:
            yield from self._start(_started(body["response"]))
            yield from self._over(body["response"], kind.removeprefix("response."))
        elif not self._started:
            yield from self._fail(malformed("the stream does not begin with response.created"))
        elif kind == "response.output_item.added":
            self._silent = True
            yield from self._open_item(body["item"])
        elif kind == "response.output_item.done":
            yield from self._close_item(body["item"])
        elif isinstance(kind, str):
            yield from self._inner(kind.removeprefix("response."), body)

    def _inner(self, kind: str, body: dict[str, Any]) -> Iterator[Event]:
        match kind:
            case "content_part.added":
                if part := _PARTS.get(str(body["part"].get("type"))):
                    self._silent = False
                    yield from self._part(part)
            case "content_part.done":
                if body["part"].get("type") in _PARTS:
                    yield from self._end_part()
            case "output_text.delta":
                yield from self._text(string(body["delta"]), body.get("logprobs"))
            case "refusal.delta":
                self._silent = False
                yield from self._within("refusal")
                yield RefusalDelta(string(body["delta"]))
            case "reasoning_summary_part.added":
                self._summaries += 1
                if self._summaries > 1:
                    yield from self._reasoning("\n\n")
            case "reasoning_summary_text.delta" | "reasoning_text.delta":
                yield from self._reasoning(string(body["delta"]))
            case "function_call_arguments.delta":
                yield from self._arguments(string(body["delta"]))
            case "function_call_arguments.done" if self._silent:
                yield from self._arguments(string(body["arguments"]))

    def _text(self, text: str, logprobs: Any) -> Iterator[Event]:
        self._silent = False
        yield from self._within("text")
        yield TextDelta(text, logprobs=decode_logprobs(logprobs))

    def _reasoning(self, text: str) -> Iterator[Event]:
        self._silent = False
        yield from self._within("reasoning")
        yield ReasoningDelta(text)

    def _arguments(self, text: str) -> Iterator[Event]:
        part = self._open.get(0)
        if part is not None and part.kind == "tool_call" and text:
            self._silent = False
            yield ToolArgumentsDelta(text)

    def _open_item(self, item: dict[str, Any]) -> Iterator[Event]:
        match item.get("type"):
            case "function_call":
                self._calls = True
                name = qualified(item.get("namespace"), string(item["name"]))
                yield from self._part("tool_call", string(item["call_id"]), name)
            case "reasoning":
                self._summaries = 0
                yield from self._part("reasoning")
            case _:
                yield from self._end_part()

    def _close_item(self, item: dict[str, Any]) -> Iterator[Event]:
        kind = item.get("type")
        if self._silent:
            yield from self._content(item)
        if kind == "reasoning" and item.get("encrypted_content"):
            yield from self._sign(string(item["encrypted_content"]))
        yield from self._end_part()

    def _content(self, item: dict[str, Any]) -> Iterator[Event]:
        """What an item says, when nothing of it came in pieces."""
        match item.get("type"):
            case "function_call":
                yield from self._arguments(string(item.get("arguments") or ""))
            case "message":
                for part in item.get("content") or []:
                    if kind := _PARTS.get(str(part.get("type"))):
                        yield from self._part(kind)
                    if part.get("type") == "output_text" and (part["text"] or part.get("logprobs")):
                        yield from self._text(string(part["text"]), part.get("logprobs"))
                    elif part.get("type") == "refusal" and part["refusal"]:
                        yield RefusalDelta(string(part["refusal"]))
            case "reasoning":
                parts = item.get("content") or item.get("summary") or []
                if text := "\n\n".join(string(part["text"]) for part in parts):
                    yield from self._reasoning(text)

    def _over(self, response: dict[str, Any], kind: str) -> Iterator[Event]:
        status = str(response.get("status") or kind)
        if status in ("failed", "cancelled"):
            error = response.get("error") or {"message": f"the response was {status}"}
            yield from self._fail(_error(error))
            return
        details = response.get("incomplete_details") or {}
        reason = from_response(status, details.get("reason"), calls=self._calls)
        yield from self._finish(Finished(reason, _usage(response.get("usage") or {})))


def decode_response(body: Any) -> list[Event]:
    """The events of a plain answer; a last ``Failed`` when it makes no sense."""
    return _Plain().whole(body)


class _Plain(StreamDecoder):
    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        if body.get("object") != "response":
            error = decode_error(body, 502) if "error" in body else malformed("the answer is no response")
            yield from self._fail(error)
            return
        yield from self._start(_started(body))
        for item in body["output"]:
            self._silent = True
            yield from self._open_item(item)
            yield from self._close_item(item)
        yield from self._over(body, str(body.get("status")))


def _started(response: dict[str, Any]) -> Started:
    return Started(str(response.get("id", "")), str(response.get("model", "")), count(response.get("created_at")))


def _error(told: dict[str, Any]) -> Any:
    known = {"type", "sequence_number", "error_type"}
    kind = told.get("error_type") if told.get("type") == "error" else told.get("type")
    return decode_error({"error": {k: v for k, v in told.items() if k not in known} | {"type": kind}}, 502)


def _usage(raw: dict[str, Any]) -> Usage:
    read, written = (raw.get(key) or {} for key in ("input_tokens_details", "output_tokens_details"))
    return Usage(
        count(raw.get("input_tokens")),
        count(raw.get("output_tokens")),
        count(read.get("cached_tokens")),
        count(written.get("reasoning_tokens")),
    )
