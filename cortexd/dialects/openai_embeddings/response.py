"""Vectors to the ``list`` object of the embeddings route."""

from __future__ import annotations

import base64
import struct
from typing import Any, Literal

from cortexd.protocol.request import Embeddings


def encode_response(answer: Embeddings, encoding: Literal["float", "base64"]) -> dict[str, Any]:
    """``base64`` is of little-endian 32-bit floats."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _base64(v) if encoding == "base64" else list(v)}
            for i, v in enumerate(answer.vectors)
        ],
        "model": answer.model,
        "usage": {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens},
    }


def _base64(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
