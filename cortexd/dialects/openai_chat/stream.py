"""Events to server-sent events of chat completion chunks."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.finish import TABLE
from cortexd.dialects.logprobs import encode_logprobs
from cortexd.dialects.openai_errors import encode_error
from cortexd.dialects.sse import COMMENT as KEEP_ALIVE
from cortexd.dialects.sse import DONE, data
from cortexd.dialects.usage import encode_timing, encode_usage
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
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

__all__ = ["DONE", "KEEP_ALIVE", "StreamEncoder", "encode_timing", "encode_usage"]


class StreamEncoder:
    """One stream. ``include_usage`` adds the last chunk with ``choices: []`` that carries usage and timing."""

    def __init__(self, *, include_usage: bool, request_id: str | None = None) -> None:
        """``request_id`` goes into the error event, where there is one."""
        self._include_usage = include_usage
        self._request_id = request_id
        self._started = Started("", "", 0)
        self._calls: dict[int, int] = {}

    def keep_alive(self) -> bytes:
        """Bytes for a silence."""
        return KEEP_ALIVE

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; may be empty."""
        match event:
            case Started():
                self._started = event
                return self._chunk(0, {"role": "assistant", "content": ""}, usage=event.usage)
            case PartStarted():
                return self._role(event) + self._part(event)
            case TextDelta():
                logprobs = {"content": encode_logprobs(event.logprobs), "refusal": None} if event.logprobs else None
                return self._chunk(event.choice, {"content": event.text}, logprobs=logprobs)
            case ReasoningDelta():
                return self._chunk(event.choice, {"reasoning_content": event.text})
            case ReasoningSignature():
                return self._chunk(event.choice, {"reasoning_signature": event.signature})
            case RefusalDelta():
                return self._chunk(event.choice, {"refusal": event.text})
            case ToolArgumentsDelta():
                call = {"index": self._calls[event.choice], "function": {"arguments": event.json}}
                return self._chunk(event.choice, {"tool_calls": [call]})
            case PartEnded():
                return b""
            case Finished():
                return self._end(event)
            case Failed():
                return data(encode_error(event.error, self._request_id)) + DONE

    def _role(self, part: PartStarted) -> bytes:
        first = part.choice > 0 and part.index == 0
        return self._chunk(part.choice, {"role": "assistant", "content": ""}) if first else b""

    def _part(self, part: PartStarted) -> bytes:
        if part.kind != "tool_call":
            return b""
        index = self._calls[part.choice] = self._calls.get(part.choice, -1) + 1
        function = {"name": part.name, "arguments": ""}
        call = {"index": index, "id": part.id, "type": "function", "function": function}
        return self._chunk(part.choice, {"tool_calls": [call]})

    def _end(self, finished: Finished) -> bytes:
        end = self._chunk(0, {}, finish=finished.reason, stopped=finished.stop_sequence)
        for i, reason in enumerate(finished.others, 1):
            end += self._chunk(i, {}, finish=reason)
        if self._include_usage:
            body = self._envelope() | {"choices": [], "usage": encode_usage(finished.usage)}
            if finished.timing is not None:
                body["timing"] = encode_timing(finished.timing)
            end += data(body)
        return end + DONE

    def _envelope(self) -> dict[str, Any]:
        started = self._started
        return {
            "id": started.id,
            "object": "chat.completion.chunk",
            "created": started.created,
            "model": started.model,
        }

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        finish: FinishReason | None = None,
        stopped: str | None = None,
        logprobs: dict[str, Any] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        choice["finish_reason"] = None if finish is None else TABLE[finish].chat
        if stopped is not None:
            choice["stop_reason"] = stopped
        body = self._envelope() | {"choices": [choice]}
        if usage is not None and self._include_usage:
            body["usage"] = encode_usage(usage)
        return data(body)
