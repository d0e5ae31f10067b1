"""``POST /v1/completions``: JSON to a CompletionRequest, or a 400 that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.reading import need, number, unsupported, wrong
from cortexd.dialects.sampling import READ, parse_sampling
from cortexd.dialects.tokens import parse_texts
from cortexd.protocol.request import NO_FEATURES, CompletionRequest, Feature

# Accepted and without effect here: it concerns OpenAI's own accounts.
IGNORED = frozenset({"user"})
_READ = READ | {
    "best_of", "echo", "logprobs", "max_tokens", "model", "n", "prompt", "stream", "stream_options", "suffix",
}  # fmt: skip
# This API's own default, which its clients count on.
DEFAULT_MAX_TOKENS = 16
MOST_CHOICES = 128


def parse_request(body: bytes | Mapping[str, Any], *, features: frozenset[Feature] = NO_FEATURES) -> CompletionRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it, and for what ``features`` lacks."""
    raw = reading.load(body)
    model = reading.model(raw)
    if reading.text(raw, "suffix"):
        raise unsupported("suffix")
    prompts = parse_texts(raw, "prompt", MOST_CHOICES)
    n: int = number(raw, "n", 1, MOST_CHOICES, whole=True) or 1
    best = number(raw, "best_of", 1, MOST_CHOICES, whole=True)
    if best is not None and best != n:
        raise unsupported("best_of", "can only be as large as 'n'")
    if n * len(prompts) > MOST_CHOICES:
        raise wrong("n", f"such that there are at most {MOST_CHOICES} choices (n times the prompts)")
    if n * len(prompts) != 1:
        need(features, "choices", "n" if n != 1 else "prompt")
    top: int | None = number(raw, "logprobs", 0, 20, whole=True)
    if top is not None:
        need(features, "logprobs", "logprobs")
    echo = bool(reading.flag(raw, "echo"))
    limit = number(raw, "max_tokens", 0 if echo else 1, 2**31, whole=True)
    options = reading.mapping(raw, "stream_options")
    return CompletionRequest(
        model=model,
        prompts=prompts,
        sampling=parse_sampling(raw, features, DEFAULT_MAX_TOKENS if limit is None else limit),
        stream=bool(reading.flag(raw, "stream")),
        include_usage=bool(reading.flag(options, "include_usage", "stream_options.")),
        n=n,
        echo=echo,
        top_logprobs=top,
        ignored=reading.unknown(raw, _READ | IGNORED),
    )
