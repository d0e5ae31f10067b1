"""Which chunk may follow which on the wire of chat completions.

All chunks bear one id. A choice begins with its role, says what it says, names a finish reason and is silent then; tool
calls count up and come one after the other. After the last choice a chunk without choices may tell the usage. The end
is ``[DONE]``, after a failure too.
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
        self._calls: dict[int, int] = {}
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._failed = False
        self._usage = False
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Check what these bytes complete."""
        for payload in self._parser.feed(data):
            if payload == b"[DONE]":
                whole = bool(self._begun) and self._begun == self._finished
                self._require(not self.ended and (whole or self._failed), payload)
                self.ended = True
            else:
                self.check(orjson.loads(payload))

    def check(self, chunk: dict[str, Any]) -> None:
        """Check one payload."""
        self._require(not (self.ended or self._failed or self._usage), chunk)
        if "error" in chunk:
            self._require("message" in chunk["error"], chunk)
            self._failed = True
            return
        envelope = tuple(chunk.get(key) for key in ("id", "object", "created", "model"))
        self._require(envelope[1] == "chat.completion.chunk" and self._envelope in (None, envelope), chunk)
        self._envelope = envelope
        if not chunk["choices"]:
            self._require("usage" in chunk and self._begun == self._finished, chunk)
            self._usage = True
        for choice in chunk["choices"]:
            self._choice(choice, chunk)

    def _choice(self, choice: dict[str, Any], chunk: dict[str, Any]) -> None:
        index, delta = choice["index"], choice["delta"]
        self._require(index not in self._finished, chunk)
        self._require((delta.get("role") == "assistant") == (index not in self._begun), chunk)
        self._begun.add(index)
        for call in delta.get("tool_calls") or []:
            last = self._calls.get(index, -1)
            new = call.get("id") is not None
            self._require(call["index"] == (last + 1 if new else last), chunk)
            self._require(not new or (call["type"] == "function" and "name" in call["function"]), chunk)
            self._calls[index] = call["index"]
        if choice.get("finish_reason") is not None:
            self._finished.add(index)

    def _require(self, condition: bool, chunk: object) -> None:
        if not condition:
            raise WireError(f"{chunk!r} may not come here (begun {self._begun}, finished {self._finished})")
