"""Logprobs as chat completions and responses write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortexd.dialects.decoding import string
from cortexd.protocol.events import TokenLogprob


def encode_logprobs(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """``token``, ``logprob``, ``bytes`` and ``top_logprobs`` of each."""
    return [_encode(token) | {"top_logprobs": [_encode(t) for t in token.top]} for token in tokens]


def _encode(token: TokenLogprob) -> dict[str, Any]:
    data = None if token.data is None else list(token.data)
    return {"token": token.token, "logprob": token.logprob, "bytes": data}


def decode_logprobs(raw: Any) -> tuple[TokenLogprob, ...]:
    """The other way; absent is none. Raises TypeError, LookupError or ValueError for another form."""
    return tuple(_decode(each, tuple(_decode(t) for t in each.get("top_logprobs") or ())) for each in raw or ())


def _decode(raw: Any, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    data, logprob = raw.get("bytes"), raw.get("logprob")
    return TokenLogprob(
        string(raw["token"]), None if logprob is None else float(logprob), None if data is None else bytes(data), top
    )
