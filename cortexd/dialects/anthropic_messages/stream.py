"""Events to Anthropic's named server-sent events."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.anthropic_messages.errors import encode_error
from cortexd.dialects.finish import TABLE
from cortexd.dialects.sse import named
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
    Usage,
)

# Clients skip it, but it counts as a sign of life. Allowed at any time, also before ``message_start``.
KEEP_ALIVE = b'event: ping\ndata: {"type":"ping"}\n\n'


class StreamEncoder:
    """One stream of one choice."""

    def __init__(self, request_id: str | None = None) -> None:
        """``request_id`` goes into the error event, where there is one."""
        self._request_id = request_id
        self._index = 0

    def keep_alive(self) -> bytes:
        """Bytes for a silence."""
        return KEEP_ALIVE

    def encode(self, event: Event) -> bytes:
        """The bytes for one event. A refusal is text here; logprobs and timing have no place on this wire."""
        match event:
            case Started():
                return named({"type": "message_start", "message": envelope(event)})
            case PartStarted():
                if event.choice:
                    raise ValueError("this wire has one choice")
                self._index = event.index
                return named({"type": "content_block_start", "index": event.index, "content_block": block(event)})
            case TextDelta() | RefusalDelta():
                return self._delta({"type": "text_delta", "text": event.text}) if event.text else b""
            case ReasoningDelta():
                return self._delta({"type": "thinking_delta", "thinking": event.text})
            case ReasoningSignature():
                return self._delta({"type": "signature_delta", "signature": event.signature})
            case ToolArgumentsDelta():
                return self._delta({"type": "input_json_delta", "partial_json": event.json})
            case PartEnded():
                return named({"type": "content_block_stop", "index": event.index})
            case Finished():
                return named(
                    {"type": "message_delta", "delta": stop(event), "usage": encode_usage(event.usage)}
                ) + named({"type": "message_stop"})
            case Failed():
                return named(encode_error(event.error, self._request_id))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named({"type": "content_block_delta", "index": self._index, "delta": delta})


def envelope(started: Started) -> dict[str, Any]:
    """The message as it begins."""
    return {
        "id": started.id,
        "type": "message",
        "role": "assistant",
        "model": started.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": encode_usage(started.usage or Usage(0, 0)),
    }


def block(part: PartStarted) -> dict[str, Any]:
    """A content block as it begins."""
    match part.kind:
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_call":
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
        case _:
            return {"type": "text", "text": ""}


def stop(finished: Finished) -> dict[str, Any]:
    """``stop_reason`` and ``stop_sequence``."""
    if finished.reason == "stop" and finished.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop_sequence}
    return {"stop_reason": TABLE[finished.reason].anthropic, "stop_sequence": None}


def encode_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's usage object: ``input_tokens`` leaves out what came from the cache."""
    body: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body
