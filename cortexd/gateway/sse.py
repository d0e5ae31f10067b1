"""Reading a chat stream on its way through: whole events leave as they came, and what the ledger needs is noted. Pure.

An event is parsed as JSON only when a byte test says that it matters: until the first token, for usage, for the finish
reason, for an error. Everything else is cut and forwarded.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from cortexd.dialects.openai_chat import KEEP_ALIVE
from cortexd.gateway.errors import error_event
from cortexd.protocol.errors import ApiError

_BOUNDARY = re.compile(rb"\r?\n\r?\n")
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_ERROR = re.compile(rb'"error"\s*:\s*[{"]')


class ChatStream:
    """Feed it the body; it gives back what may go on. Times are on any one clock, in seconds."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._buffer = bytearray()
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.token_chunks = 0
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.error: dict[str, Any] | None = None
        # The event that ends the stream, kept until the usage row is committed.
        self.final = b""

    @property
    def ended(self) -> bool:
        """Whether a finish reason, an error or the end was there."""
        return bool(self.final) or self.finish_reason is not None or self.error is not None

    @property
    def over(self) -> bool:
        """Never: whatever a neuron says goes on to the client."""
        return False

    def keep_alive(self, now: float) -> bytes:
        """A comment."""
        return KEEP_ALIVE

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """An error event."""
        return error_event(error, request_id)

    def feed(self, data: bytes, now: float) -> bytes:
        """The whole events in what came so far, without those that the client did not ask for."""
        self._buffer += data
        out, start = [], 0
        for boundary in _BOUNDARY.finditer(self._buffer):
            event = bytes(self._buffer[start : boundary.end()])
            start = boundary.end()
            if self._passes(event, now):
                out.append(event)
        if start:
            del self._buffer[:start]
        return b"".join(out)

    def end(self, now: float) -> None:
        """The body ended: an event that lacks its empty line counts as whole."""
        if self._buffer.strip():
            rest = self.feed(b"\n\n", now)
            self.final = rest + self.final

    def _passes(self, event: bytes, now: float) -> bool:
        if not event.startswith(b"data:"):
            return True  # comments, and whatever else the neuron says
        data = event[5:].strip()
        if data == b"[DONE]":
            self.final += event
            return False
        # Text that looks like one of these three is escaped, so it does not match.
        if _USAGE.search(data) or _FINISH.search(data) or _ERROR.search(data):
            return self._note(_parse(data), now)
        if self.first_token_at is not None or _has_token(_parse(data)):
            self._count_token(now)
        return True

    def _count_token(self, now: float) -> None:
        self.first_token_at = self.first_token_at or now
        self.last_token_at = now
        self.token_chunks += 1

    def _note(self, chunk: dict[str, Any], now: float) -> bool:
        if _has_token(chunk):
            self._count_token(now)
        for choice in _choices(chunk):
            if isinstance(choice.get("finish_reason"), str):
                self.finish_reason = choice["finish_reason"]
        if "error" in chunk:
            error = chunk["error"]
            self.error = error if isinstance(error, dict) else {"message": str(error)}
        if not isinstance(chunk.get("usage"), dict):
            return True
        self.usage = chunk["usage"]
        return self._include_usage or chunk.get("choices") != []


def _parse(data: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return chunk if isinstance(chunk, dict) else {}


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []


def _has_token(chunk: dict[str, Any]) -> bool:
    """Whether anything was generated: the chunk that only announces the role does not count."""
    for choice in _choices(chunk):
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role"):
            return True
    return False
