"""A plain answer: the fold of the same events that a stream sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from cortexd.dialects.anthropic_messages.stream import block, encode_usage, envelope, stop
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
)


def encode_response(events: Iterable[Event]) -> dict[str, Any]:
    """The ``message`` object. Raises the ApiError of a stream that failed, ValueError without an end."""
    body: dict[str, Any] = envelope(Started("", "", 0))
    arguments: list[str] = []
    for event in events:
        match event:
            case Started():
                body = envelope(event)
            case PartStarted():
                body["content"].append(block(event))
                arguments = []
            case TextDelta() | RefusalDelta():
                body["content"][-1]["text"] += event.text
            case ReasoningDelta():
                body["content"][-1]["thinking"] += event.text
            case ReasoningSignature():
                body["content"][-1]["signature"] = event.signature
            case ToolArgumentsDelta():
                arguments.append(event.json)
            case PartEnded():
                if body["content"][-1]["type"] == "tool_use":
                    body["content"][-1]["input"] = _input("".join(arguments))
            case Failed():
                raise event.error
            case Finished():
                return body | stop(event) | {"usage": encode_usage(event.usage)}
    raise ValueError("the events have no end")


def _input(arguments: str) -> dict[str, Any]:
    """The arguments as the object that this dialect wants; what a model wrote wrongly is kept under one name."""
    try:
        value = orjson.loads(arguments or "{}")
    except ValueError:
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"_raw": arguments}


def encode_count(input_tokens: int) -> dict[str, Any]:
    """The answer of ``count_tokens``."""
    return {"input_tokens": input_tokens}
