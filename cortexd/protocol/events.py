"""What comes back for a request, in no dialect's words: a stream that ``grammar.py`` describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cortexd.protocol.errors import ApiError

PartKind = Literal["text", "reasoning", "tool_call"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. ``cached_tokens`` is the share of ``prompt_tokens`` that was not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: waiting for a slot, computing the prompt, generating."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """First event. ``created`` is Unix time in whole seconds."""

    id: str
    model: str
    created: int


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part opens; parts never overlap. ``id`` and ``name`` belong to tool calls."""

    index: int
    kind: PartKind
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    json: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    index: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The only clean end."""

    reason: FinishReason
    usage: Usage
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The other end; ``usage`` is what was produced until then, where known."""

    error: ApiError
    usage: Usage | None = None


Event = Started | PartStarted | TextDelta | ReasoningDelta | ToolArgumentsDelta | PartEnded | Finished | Failed
