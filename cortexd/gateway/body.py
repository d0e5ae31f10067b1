"""What the gateway reads of a chat request: the few members that routing needs. The bytes stay the client's. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from cortexd.gateway.sse import ChatStream
from cortexd.gateway.wire import Whole
from cortexd.protocol.errors import ApiError, invalid_request

# Strings whole, so that brackets inside them do not count; possessive, so that no body makes it backtrack.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class ChatBody:
    """``raw`` as it came; ``model`` is the name that the client wrote.

    ``output``: the member that bounds the answer, with its value in tokens, where there is a sensible one.
    """

    raw: bytes
    model: str
    stream: bool
    include_usage: bool
    output: tuple[str, int] | None = None
    path: str = "/v1/chat/completions"
    task: str = "chat"
    # members that we do not know are the neuron's to judge
    ignored: tuple[str, ...] = ()

    def named(self, refusal: ApiError) -> ApiError:
        """The neuron's words are the client's."""
        return refusal

    def outflow(self, request_id: str, interval_s: float) -> ChatStream:
        """The neuron's own events."""
        return ChatStream(include_usage=self.include_usage)

    def whole(self, body: bytes) -> Whole:
        """The neuron's own bytes. Raises ValueError where they are no chat completion."""
        try:
            parsed = orjson.loads(body)
            choices = parsed.get("choices") or [{}]
            return Whole(body, parsed.get("usage"), parsed.get("timing"), choices[0].get("finish_reason"))
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError, IndexError):
            raise ValueError("no chat completion") from None

    def for_model(self, model_id: str) -> bytes:
        """The bytes to send on: only the value of ``model`` differs, and only where an alias was used."""
        return self.raw if model_id == self.model else with_model(self.raw, model_id)


@dataclass(frozen=True, slots=True)
class EmbeddingsBody(ChatBody):
    """A request for embeddings: the same way, but for what the answer looks like. It is never streamed."""

    def whole(self, body: bytes) -> Whole:
        """The neuron's own bytes. Raises ValueError where they are no list of embeddings."""
        try:
            parsed = orjson.loads(body)
            if not isinstance(parsed["data"], list):
                raise TypeError
            return Whole(body, parsed.get("usage"), None, None)
        except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
            raise ValueError("no list of embeddings") from None


def parse_embeddings_body(raw: bytes) -> EmbeddingsBody:
    """As ``parse_chat_body``."""
    model = _model(_object(raw))
    return EmbeddingsBody(raw, model, stream=False, include_usage=False, path="/v1/embeddings", task="embed")


def parse_chat_body(raw: bytes) -> ChatBody:
    """Raises ApiError 400 naming the member that is wrong. What only a neuron can judge is left to it."""
    body = _object(raw)
    model = _model(body)
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong_type("stream", "true or false")
    if not isinstance(body.get("messages", []), list):
        raise _wrong_type("messages", "an array")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _wrong_type("stream_options", "an object")
    include_usage = (options or {}).get("include_usage")
    if include_usage is not None and not isinstance(include_usage, bool):
        raise _wrong_type("stream_options.include_usage", "true or false")
    return ChatBody(raw, model, bool(stream), bool(include_usage), _output(body))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise invalid_request(f"The request body is not valid JSON: {e}", code="malformed_json") from None
    if not isinstance(body, dict):
        raise invalid_request("The request body must be a JSON object.", code="invalid_request_body")
    return body


def _model(body: dict[str, Any]) -> str:
    if body.get("model") is None:
        raise invalid_request("The request has no 'model'.", code="missing_model_field", param="model")
    model = body["model"]
    if not isinstance(model, str) or not model:
        raise _wrong_type("model", "a non-empty string")
    return model


def _output(body: dict[str, Any]) -> tuple[str, int] | None:
    for member in ("max_completion_tokens", "max_tokens"):  # the newer name counts where both are there
        value = body.get(member)
        if value is not None:
            return (member, value) if isinstance(value, int) and not isinstance(value, bool) else None
    return None


def _wrong_type(member: str, wanted: str) -> ApiError:
    return invalid_request(f"'{member}' must be {wanted}.", code="invalid_type", param=member)


def with_model(raw: bytes, model_id: str) -> bytes:
    """``raw``, an object in valid JSON, with another value for its top-level ``model`` and no other byte changed."""
    value = json.dumps(model_id).encode()
    out, end = [], 0
    for start, stop in _model_spans(raw):
        out += [raw[end:start], value]
        end = stop
    return b"".join([*out, raw[end:]])


def _model_spans(raw: bytes) -> list[tuple[int, int]]:
    """Where string values of top-level members called ``model`` lie (a name may occur twice)."""
    spans, depth, is_model = [], 0, False
    for token in _TOKEN.finditer(raw):
        first = raw[token.start()]
        if first in b"{[":
            depth, is_model = depth + 1, False
        elif first in b"}]":
            depth -= 1
        elif depth == 1:
            if _is_key(raw, token.end()):
                is_model = json.loads(token.group()) == "model"
            elif is_model:
                spans.append(token.span())
                is_model = False
    return spans


def _is_key(raw: bytes, end: int) -> bool:
    while raw[end] in _SPACE:
        end += 1
    return raw[end] == ord(":")
