"""What all stream decoders share: bytes to payloads, parts with their borders, and an end under all circumstances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import orjson

from cortexd.dialects.sse import Parser
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartKind,
    PartStarted,
    ReasoningSignature,
    Started,
)


def malformed(why: str) -> ApiError:
    """The upstream speaks another language."""
    return ApiError(502, "api_error", "upstream_malformed_response", why)


# What every reader of JSON can hold exactly.
_MOST = 2**53


class Decoder(ABC):
    """Feed bytes as they come, cut anywhere, then ``close``. The events follow ``protocol.grammar``, whatever comes in.

    A dialect overrides ``_payload``, and ``_closed`` where the bytes may end without saying so.
    """

    def __init__(self) -> None:
        self._parser = Parser()
        self._open: dict[int, PartStarted] = {}
        self._parts: dict[int, int] = {}
        self._signed: set[int] = set()
        self._started = False
        self._ended = False

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        events: list[Event] = []
        try:
            payloads = self._parser.feed(data)
        except ValueError as e:
            return [] if self._ended else self._fail(malformed(str(e)))
        for payload in payloads:
            events += self._decode(payload)
        return events

    def close(self) -> list[Event]:
        """The end of the bytes: a stream that has not said its end was cut."""
        return [] if self._ended else self._closed()

    def whole(self, body: Any) -> list[Event]:
        """The events of a plain answer, given as bytes or as parsed JSON, for decoders that are made for those."""
        events = self._decode(body) if isinstance(body, bytes) else self._read(body)
        return [*events, *self.close()]

    def _decode(self, payload: bytes) -> list[Event]:
        if self._ended:
            return []
        if payload == b"[DONE]":
            return self.close()
        try:
            body: Any = orjson.loads(payload)
        except ValueError:
            body = None
        return self._read(body)

    def _read(self, body: Any) -> list[Event]:
        if not isinstance(body, dict):
            return self._fail(malformed("the upstream sent something that is no JSON object"))
        events: list[Event] = []
        try:
            # one by one: what was said before the payload went wrong stays said
            for event in self._payload(body):
                events.append(event)
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError):
            events += self._fail(malformed("the upstream sent JSON of an unknown form"))
        return events

    @abstractmethod
    def _payload(self, body: dict[str, Any]) -> Iterator[Event]:
        """The events of one payload, in order. Of an unknown form it may raise whatever odd JSON makes Python raise."""

    def _closed(self) -> list[Event]:
        return self._fail(ApiError(502, "api_error", "upstream_read_failed", "the stream ended before its end"))

    def _start(self, started: Started) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [started]

    def _part(self, kind: PartKind, id: str | None = None, name: str | None = None, choice: int = 0) -> list[Event]:
        """A new part, after the end of the open one."""
        ended = self._end_part(choice)
        part = PartStarted(self._parts.get(choice, 0), kind, id, name, choice)
        self._open[choice] = part
        self._parts[choice] = part.index + 1
        return [*ended, part]

    def _within(self, kind: PartKind, choice: int = 0) -> list[Event]:
        """Nothing if a part of this kind is open and not yet signed, else its beginning."""
        part = self._open.get(choice)
        fits = part is not None and part.kind == kind and choice not in self._signed
        return [] if fits else self._part(kind, choice=choice)

    def _sign(self, signature: str, choice: int = 0) -> list[Event]:
        begun = self._within("reasoning", choice)
        self._signed.add(choice)
        return [*begun, ReasoningSignature(signature, choice)]

    def _end_part(self, choice: int = 0) -> list[Event]:
        part = self._open.pop(choice, None)
        self._signed.discard(choice)
        return [] if part is None else [PartEnded(part.index, choice)]

    def _end_parts(self) -> list[Event]:
        return [event for choice in sorted(self._open) for event in self._end_part(choice)]

    def _finish(self, finished: Finished) -> list[Event]:
        self._ended = True
        return [*self._end_parts(), finished]

    def _fail(self, error: ApiError) -> list[Event]:
        self._ended = True
        return [*self._end_parts(), Failed(error)]


def string(value: Any) -> str:
    """``value`` if it is a string. Raises TypeError otherwise: the payload is malformed."""
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def count(value: Any) -> int:
    """A number of tokens; absent counts as none."""
    number = 0 if value is None else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError("not a number")
    if not number <= _MOST:
        raise ValueError("not a count")
    return max(0, int(number))
