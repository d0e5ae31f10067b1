"""What comes back for a request, in no dialect's words: a stream that ``grammar.py`` describes.

A request with ``n`` above 1 has several answers in one stream, the *choices*. Their parts may interleave; each choice
counts its own parts from 0. Every event that belongs to a choice says which; 0 is the only one of most requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cortexd.protocol.errors import ApiError

PartKind = Literal["text", "reasoning", "tool_call", "refusal"]
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
class TokenLogprob:
    """A generated token and the natural logarithm of its probability.

    ``data`` are the token's bytes where known (a token may be a piece of a character). ``logprob`` is None for the
    first token of an echoed prompt, which nothing predicted. ``top`` are the likeliest tokens of that place.
    """

    token: str
    logprob: float | None
    data: bytes | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """First event. ``created`` is Unix time in whole seconds; ``usage`` what is known of the prompt by now."""

    id: str
    model: str
    created: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part opens; parts of one choice never overlap. ``id`` and ``name`` belong to tool calls."""

    index: int
    kind: PartKind
    id: str | None = None
    name: str | None = None
    choice: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """``text`` may be empty where a token has logprobs but no whole character yet."""

    text: str
    choice: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ReasoningSignature:
    """What proves to its maker that the reasoning is unchanged when it comes back: opaque, once, last in its part."""

    signature: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolArgumentsDelta:
    json: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class PartEnded:
    index: int
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The only clean end.

    ``stop_sequence`` is the stop string that ended choice 0. ``others`` are the reasons of the choices 1, 2, ….
    """

    reason: FinishReason
    usage: Usage
    timing: Timing | None = None
    stop_sequence: str | None = None
    others: tuple[FinishReason, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The other end; ``usage`` is what was produced until then, where known."""

    error: ApiError
    usage: Usage | None = None


Delta = TextDelta | ReasoningDelta | ReasoningSignature | RefusalDelta | ToolArgumentsDelta
Event = Started | PartStarted | Delta | PartEnded | Finished | Failed
