"""The client side: requests to, and vectors from, any server of embeddings."""

from __future__ import annotations

import base64
import struct
from typing import Any

from cortexd.dialects.decoding import count, malformed
from cortexd.dialects.encoded import Encoded
from cortexd.dialects.openai_errors import decode_error
from cortexd.dialects.tokens import encode_texts
from cortexd.protocol.request import EmbeddingRequest, Embeddings


def encode_request(request: EmbeddingRequest, *, model: str | None = None) -> Encoded:
    """The body, for ``model`` where the upstream has another name for it."""
    body: dict[str, Any] = {"model": model or request.model, "input": encode_texts(request.inputs)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return Encoded(body | {"encoding_format": request.encoding})


def decode_response(body: Any) -> Embeddings:
    """The vectors in the order of their indices. Raises ApiError 502 for an answer that makes no sense."""
    if isinstance(body, dict) and "error" in body:
        raise decode_error(body, 502)
    try:
        entries = sorted(body["data"], key=lambda entry: count(entry["index"]))
        if [entry["index"] for entry in entries] != list(range(len(entries))):
            raise ValueError("an index is missing")
        usage = body.get("usage") or {}
        vectors = tuple(_vector(entry["embedding"]) for entry in entries)
        return Embeddings(str(body.get("model", "")), vectors, count(usage.get("prompt_tokens")))
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError, struct.error):
        raise malformed("the answer is no list of embeddings") from None


def _vector(raw: Any) -> tuple[float, ...]:
    if isinstance(raw, str):
        data = base64.b64decode(raw, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    return tuple(float(value) for value in raw)
