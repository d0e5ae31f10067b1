"""Logprobs in the columns of text completions. The bytes of tokens have no place in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cortexd.dialects.decoding import string
from cortexd.protocol.events import TokenLogprob


def encode_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """``offset`` is where the first token begins, in characters of the choice's text."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{t.token: t.logprob for t in token.top} for token in tokens],
        "text_offset": offsets,
    }


def decode_logprobs(raw: Any) -> tuple[TokenLogprob, ...]:
    """The other way; absent is none. Raises TypeError, LookupError or ValueError for another form."""
    if not raw:
        return ()
    tokens, logprobs = raw["tokens"], raw["token_logprobs"]
    tops = raw.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenLogprob(
            string(token),
            None if logprob is None else float(logprob),
            top=tuple(TokenLogprob(string(t), float(p)) for t, p in (top or {}).items()),
        )
        for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
    )
