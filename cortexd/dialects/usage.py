"""OpenAI's usage object, which chat and text completions share, and our own timing beside it."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.decoding import count
from cortexd.protocol.events import Timing, Usage

_TIMES = ("queue_s", "prefill_s", "decode_s")


def encode_usage(usage: Usage) -> dict[str, Any]:
    """``prompt_tokens``, ``completion_tokens``, their sum and the two details."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def decode_usage(raw: dict[str, Any]) -> Usage:
    """The other way; what is missing counts as none. Raises TypeError, AttributeError for another form."""
    prompt, completion = (raw.get(key) or {} for key in ("prompt_tokens_details", "completion_tokens_details"))
    return Usage(
        count(raw.get("prompt_tokens")),
        count(raw.get("completion_tokens")),
        count(prompt.get("cached_tokens")),
        count(completion.get("reasoning_tokens")),
    )


def encode_timing(timing: Timing) -> dict[str, float]:
    """Seconds, an extension of ours."""
    return {"queue_s": timing.queue_s, "prefill_s": timing.prefill_s, "decode_s": timing.decode_s}


def decode_timing(raw: Any) -> Timing | None:
    """The other way; None where it is not ours."""
    if not isinstance(raw, dict) or not all(isinstance(raw.get(key), int | float) for key in _TIMES):
        return None
    return Timing(*(float(raw[key]) for key in _TIMES))
