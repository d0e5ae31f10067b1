"""Events to server-sent events of chat completion chunks."""

from __future__ import annotations

import json
from typing import Any

from cortexd.dialects.openai_chat.errors import encode_error
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    Timing,
    ToolArgumentsDelta,
    Usage,
)

# A comment: every parser of server-sent events skips it.
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class StreamEncoder:
    """One stream. ``include_usage`` adds the last chunk with ``choices: []`` that carries usage and timing."""

    def __init__(self, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._started = Started("", "", 0)
        self._call = -1

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; may be empty."""
        match event:
            case Started():
                self._started = event
                return self._chunk({"role": "assistant", "content": ""})
            case PartStarted(kind="tool_call"):
                self._call += 1
                function = {"name": event.name, "arguments": ""}
                call = {"index": self._call, "id": event.id, "type": "function", "function": function}
                return self._chunk({"tool_calls": [call]})
            case TextDelta():
                return self._chunk({"content": event.text})
            case ReasoningDelta():
                return self._chunk({"reasoning_content": event.text})
            case ToolArgumentsDelta():
                call = {"index": self._call, "function": {"arguments": event.json}}
                return self._chunk({"tool_calls": [call]})
            case PartStarted() | PartEnded():
                return b""
            case Finished():
                end = self._chunk({}, event.reason)
                if self._include_usage:
                    body = self._envelope() | {"choices": [], "usage": encode_usage(event.usage)}
                    if event.timing is not None:
                        body["timing"] = encode_timing(event.timing)
                    end += _data(body)
                return end + DONE
            case Failed():
                return _data(encode_error(event.error)) + DONE

    def _envelope(self) -> dict[str, Any]:
        started = self._started
        return {
            "id": started.id,
            "object": "chat.completion.chunk",
            "created": started.created,
            "model": started.model,
        }

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data(self._envelope() | {"choices": [choice]})


def encode_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def encode_timing(timing: Timing) -> dict[str, float]:
    """Seconds, an extension of ours."""
    return {"queue_s": timing.queue_s, "prefill_s": timing.prefill_s, "decode_s": timing.decode_s}


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n\n"
