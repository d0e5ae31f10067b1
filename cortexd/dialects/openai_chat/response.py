"""A plain answer: the fold of the same events that a stream sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortexd.dialects.finish import TABLE
from cortexd.dialects.logprobs import encode_logprobs
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
    TokenLogprob,
    ToolArgumentsDelta,
)


class _Choice:
    """What one choice said so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.reasoning: list[str] = []
        self.signature: str | None = None
        self.refusal: list[str] = []
        self.calls: list[dict[str, Any]] = []

    def answer(self, index: int, reason: FinishReason) -> dict[str, Any]:
        content = "".join(self.text)
        said = bool(content) or not (self.calls or self.refusal)
        message: dict[str, Any] = {"role": "assistant", "content": content if said else None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.signature is not None:
            message["reasoning_signature"] = self.signature
        if self.refusal:
            message["refusal"] = "".join(self.refusal)
        if self.calls:
            message["tool_calls"] = self.calls
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": TABLE[reason].chat}
        if self.logprobs:
            choice["logprobs"] = {"content": encode_logprobs(self.logprobs), "refusal": None}
        return choice


def encode_response(events: Iterable[Event]) -> dict[str, Any]:
    """The ``chat.completion`` object. Raises the ApiError of a stream that failed, ValueError without an end."""
    choices: dict[int, _Choice] = {}
    started = Started("", "", 0)
    for event in events:
        match event:
            case Started():
                started = event
            case Failed():
                raise event.error
            case Finished():
                return _completion(started, choices, event)
            case PartEnded():
                pass
            case _:
                _add(choices.setdefault(event.choice, _Choice()), event)
    raise ValueError("the events have no end")


def _add(choice: _Choice, event: Event) -> None:
    match event:
        case PartStarted(kind="tool_call"):
            function = {"name": event.name, "arguments": ""}
            choice.calls.append({"id": event.id, "type": "function", "function": function})
        case TextDelta():
            choice.text.append(event.text)
            choice.logprobs += event.logprobs
        case ReasoningDelta():
            choice.reasoning.append(event.text)
        case ReasoningSignature():
            choice.signature = event.signature
        case RefusalDelta():
            choice.refusal.append(event.text)
        case ToolArgumentsDelta():
            choice.calls[-1]["function"]["arguments"] += event.json


def _completion(started: Started, choices: dict[int, _Choice], end: Finished) -> dict[str, Any]:
    reasons = (end.reason, *end.others)
    answers = [choices.get(i, _Choice()).answer(i, reason) for i, reason in enumerate(reasons)]
    if end.stop_sequence is not None:
        answers[0]["stop_reason"] = end.stop_sequence
    body: dict[str, Any] = {
        "id": started.id,
        "object": "chat.completion",
        "created": started.created,
        "model": started.model,
        "choices": answers,
        "usage": encode_usage(end.usage),
    }
    if end.timing is not None:
        body["timing"] = encode_timing(end.timing)
    return body
