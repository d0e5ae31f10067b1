"""A plain answer: the fold of the same events that a stream sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortexd.dialects.openai_chat.stream import encode_timing, encode_usage
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
)


def encode_response(events: Iterable[Event]) -> dict[str, Any]:
    """The ``chat.completion`` object. Raises the ApiError of a stream that failed, ValueError without an end."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    started = Started("", "", 0)
    for event in events:
        match event:
            case Started():
                started = event
            case PartStarted(kind="tool_call"):
                function = {"name": event.name, "arguments": ""}
                calls.append({"id": event.id, "type": "function", "function": function})
            case TextDelta():
                text.append(event.text)
            case ReasoningDelta():
                reasoning.append(event.text)
            case ToolArgumentsDelta():
                calls[-1]["function"]["arguments"] += event.json
            case PartStarted() | PartEnded():
                pass
            case Failed():
                raise event.error
            case Finished():
                content = "".join(text)
                message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
                if reasoning:
                    message["reasoning_content"] = "".join(reasoning)
                if calls:
                    message["tool_calls"] = calls
                body: dict[str, Any] = {
                    "id": started.id,
                    "object": "chat.completion",
                    "created": started.created,
                    "model": started.model,
                    "choices": [{"index": 0, "message": message, "finish_reason": event.reason}],
                    "usage": encode_usage(event.usage),
                }
                if event.timing is not None:
                    body["timing"] = encode_timing(event.timing)
                return body
    raise ValueError("the events have no end")
