"""What the gateway reads of a chat request: the few members that routing needs. The bytes stay the client's. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import orjson

from cortexd.protocol.errors import ApiError, invalid_request

# Strings whole, so that brackets inside them do not count; possessive, so that no body makes it backtrack.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class ChatBody:
    """``raw`` as it came; ``model`` is the name that the client wrote."""

    raw: bytes
    model: str
    stream: bool
    include_usage: bool

    def for_model(self, model_id: str) -> bytes:
        """The bytes to send on: only the value of ``model`` differs, and only where an alias was used."""
        return self.raw if model_id == self.model else with_model(self.raw, model_id)


def parse_chat_body(raw: bytes) -> ChatBody:
    """Raises ApiError 400 naming the member that is wrong. What only a neuron can judge is left to it."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        raise invalid_request(f"The request body is not valid JSON: {e}", code="malformed_json") from None
    if not isinstance(body, dict):
        raise invalid_request("The request body must be a JSON object.", code="invalid_request_body")
    if body.get("model") is None:
        raise invalid_request("The request has no 'model'.", code="missing_model_field", param="model")
    model = body["model"]
    if not isinstance(model, str) or not model:
        raise _wrong_type("model", "a non-empty string")
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
    return ChatBody(raw, model, bool(stream), bool(include_usage))


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
