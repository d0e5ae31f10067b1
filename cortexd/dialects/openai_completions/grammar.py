"""Which chunk may follow which on the wire of text completions.

All chunks bear one id. A choice is silent after its finish reason; after the last one a chunk without choices may tell
the usage. The end is ``[DONE]``, after a failure too.
"""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects.sse import Parser
from cortexd.dialects.wire import WireError


class WireGrammar:
    """Feed the bytes of a stream; raises WireError where it leaves the grammar. ``ended``: it came to an end."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._envelope: tuple[Any, ...] | None = None
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._over = False
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Check what these bytes complete."""
        for payload in self._parser.feed(data):
            if payload == b"[DONE]":
                whole = bool(self._begun) and self._begun == self._finished
                self._require(not self.ended and (whole or self._over), payload)
                self.ended = True
            else:
                self.check(orjson.loads(payload))

    def check(self, chunk: dict[str, Any]) -> None:
        """Check one payload."""
        self._require(not (self.ended or self._over), chunk)
        if "error" in chunk:
            self._require("message" in chunk["error"], chunk)
            self._over = True
            return
        envelope = tuple(chunk.get(key) for key in ("id", "object", "created", "model"))
        self._require(envelope[1] == "text_completion" and self._envelope in (None, envelope), chunk)
        self._envelope = envelope
        if not chunk["choices"]:
            self._require("usage" in chunk and self._begun == self._finished, chunk)
            self._over = True
        for choice in chunk["choices"]:
            self._require(choice["index"] not in self._finished and isinstance(choice["text"], str), chunk)
            self._begun.add(choice["index"])
            if choice["finish_reason"] is not None:
                self._finished.add(choice["index"])

    def _require(self, condition: bool, chunk: object) -> None:
        if not condition:
            raise WireError(f"{chunk!r} may not come here (begun {self._begun}, finished {self._finished})")
