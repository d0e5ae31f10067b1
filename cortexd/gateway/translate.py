"""One way for all dialects but a neuron's own: request -> neuron's body; neuron's bytes -> events -> client's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

import orjson

from cortexd.dialects.decoding import Decoder, malformed
from cortexd.dialects.encoded import Encoded
from cortexd.dialects.openai_errors import encode_error
from cortexd.dialects.usage import encode_timing, encode_usage
from cortexd.gateway.wire import Whole
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import Event, Failed, Finished, PartEnded, PartStarted, Started
from cortexd.protocol.request import ChatRequest, CompletionRequest

# A neuron that only sends comments beats at about our own interval: a little less is as good as one.
_NEARLY = 0.9


class Encoder(Protocol):
    """The server side of a dialect, for one stream."""

    def keep_alive(self) -> bytes: ...
    def encode(self, event: Event) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Inner:
    """What a neuron speaks on ``path``: the client side of a dialect."""

    path: str
    encode: Callable[[Any], Encoded]
    decoder: Callable[[], Decoder]
    decode: Callable[[bytes], list[Event]]


class Translated:
    """A request in another dialect than a neuron's. It is encoded once, whoever answers."""

    def __init__(
        self,
        request: ChatRequest | CompletionRequest,
        inner: Inner,
        *,
        words: Mapping[str, str],
        prefix: str,
        encoder: Callable[[Started, str], Encoder],
        whole: Callable[[list[Event]], dict[str, Any]],
    ) -> None:
        """``words`` are the dialect's for members that have another name on the neuron's wire.

        ``prefix`` is what its ids of answers begin with.
        """
        encoded = inner.encode(request)
        self.model = request.model
        self.stream = request.stream
        most = request.sampling.max_tokens
        self.output = None if most is None else (words.get("max_tokens", "max_tokens"), most)
        self.path = inner.path
        self.task = "chat"
        self.ignored = (*request.ignored, *encoded.dropped)
        self._body = encoded.body
        self._inner = inner
        self._words = words
        self._encoder = encoder
        self._whole = whole
        self._started = Started(prefix + uuid4().hex, request.model, int(time.time()))

    def named(self, refusal: ApiError) -> ApiError:
        """``refusal``, with the client's words for the members that it names."""
        param = refusal.param or ""
        word = self._words.get(param)
        if word is None:
            return refusal
        return replace(refusal, param=word, message=refusal.message.replace(f"'{param}'", f"'{word}'"))

    def for_model(self, model_id: str) -> bytes:
        """The body for a neuron that serves ``model_id``."""
        return orjson.dumps(self._body | {"model": model_id})

    def outflow(self, request_id: str, interval_s: float) -> TranslatedStream:
        """The translation of one streamed answer."""
        encoder = self._encoder(self._started, request_id)
        return TranslatedStream(self._inner.decoder(), encoder, self._started, interval_s, self.named)

    def whole(self, body: bytes) -> Whole:
        """The translation of a plain answer. Raises ApiError for its failure."""
        events = [_own(event, self._started) for event in self._inner.decode(body)]
        end = events[-1]
        if isinstance(end, Failed):
            raise end.error
        if not isinstance(end, Finished):
            raise ValueError("no whole answer")
        timing = None if end.timing is None else encode_timing(end.timing)
        return Whole(orjson.dumps(self._whole(events)), encode_usage(end.usage), timing, end.reason)


class TranslatedStream:
    """Feed it the neuron's bytes; it gives back the client's. The last event waits in ``final``."""

    def __init__(
        self,
        decoder: Decoder,
        encoder: Encoder,
        started: Started,
        interval_s: float,
        named: Callable[[ApiError], ApiError],
    ) -> None:
        self._named = named
        self._decoder = decoder
        self._encoder = encoder
        self._started = started
        self._quiet_s = interval_s * _NEARLY
        self._last_sent: float | None = None
        self._end: Finished | Failed | None = None
        self._tail = b""
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.token_chunks = 0
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.error: dict[str, Any] | None = None

    @property
    def final(self) -> bytes:
        """The end, encoded; to be asked for once."""
        return b"" if self._end is None else self._tail + self._encoder.encode(self._end)

    @property
    def over(self) -> bool:
        """Whether the neuron's further bytes do not matter."""
        return isinstance(self._end, Failed)

    @property
    def ended(self) -> bool:
        """Whether the neuron said how it ends. Always true after ``end``."""
        return self._end is not None

    def feed(self, data: bytes, now: float) -> bytes:
        """The client's bytes for what these complete; a keep-alive where they were silent to it for too long."""
        out = self._translate(self._decoder.feed(data), now)
        if self._last_sent is None:
            self._last_sent = now
        if out:
            self._last_sent = now
        elif self._end is None and now - self._last_sent >= self._quiet_s:
            return self.keep_alive(now)
        return out

    def end(self, now: float) -> None:
        """The bytes ended; where they broke off, ``final`` says so."""
        self._tail = self._translate(self._decoder.close(), now)

    def keep_alive(self, now: float) -> bytes:
        """What the dialect has for a silence."""
        self._last_sent = now
        return self._encoder.keep_alive()

    def fail(self, error: ApiError, request_id: str) -> bytes:
        """The end of a stream that cannot go on, in the dialect's words."""
        return self._tail + self._encoder.encode(Failed(self._named(error)))

    def _translate(self, events: list[Event], now: float) -> bytes:
        out = b""
        for event in events:
            if self._end is not None:
                break
            if isinstance(event, Finished | Failed):
                self._ends(event)
                break
            self._count(event, now)
            try:
                out += self._encoder.encode(_own(event, self._started))
            except ValueError as e:
                self._ends(Failed(malformed(str(e))))
        return out

    def _ends(self, end: Finished | Failed) -> None:
        self._end = end
        if isinstance(end, Failed):
            self.error = encode_error(end.error)["error"]
            return
        self.finish_reason = end.reason
        # none told: the ledger counts chunks
        told = end.usage.prompt_tokens or end.usage.completion_tokens
        self.usage = encode_usage(end.usage) if told else None

    def _count(self, event: Event, now: float) -> None:
        match event:
            case Started() | PartEnded():
                return
            case PartStarted(kind=kind) if kind != "tool_call":
                return
        self.first_token_at = self.first_token_at or now
        self.last_token_at = now
        self.token_chunks += 1


def _own(event: Event, started: Started) -> Event:
    """An answer bears an id of the client's dialect; the neuron's is the neuron's."""
    return replace(event, id=started.id, created=started.created) if isinstance(event, Started) else event
