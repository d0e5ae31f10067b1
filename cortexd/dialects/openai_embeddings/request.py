"""``POST /v1/embeddings``: JSON to an EmbeddingRequest, or a 400 that names the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from cortexd.dialects import reading
from cortexd.dialects.reading import number, wrong
from cortexd.dialects.tokens import parse_texts
from cortexd.protocol.request import EmbeddingRequest

# Accepted and without effect here: it concerns OpenAI's own accounts.
IGNORED = frozenset({"user"})
_READ = {"dimensions", "encoding_format", "input", "model"}
# As many as OpenAI takes at once.
MOST_INPUTS = 2048


def parse_request(body: bytes | Mapping[str, Any]) -> EmbeddingRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it."""
    raw = reading.load(body)
    model = reading.model(raw)
    encoding = _encoding(raw.get("encoding_format"))
    inputs = parse_texts(raw, "input", MOST_INPUTS)
    if "" in inputs:
        raise wrong("input", "without empty strings")
    return EmbeddingRequest(
        model=model,
        inputs=inputs,
        dimensions=number(raw, "dimensions", 1, 2**20, whole=True),
        encoding=encoding,
        ignored=reading.unknown(raw, _READ | IGNORED),
    )


def _encoding(raw: Any) -> Literal["float", "base64"]:
    match raw:
        case None | "float":
            return "float"
        case "base64":
            return "base64"
    raise wrong("encoding_format", "float or base64")
