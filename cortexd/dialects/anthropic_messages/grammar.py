"""Which event may follow which on Anthropic's wire.

``message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop``, with
``ping`` anywhere and ``error`` as the other end.
"""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects.sse import Parser
from cortexd.dialects.wire import WireError

_DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}


class WireGrammar:
    """Feed the bytes of a stream; raises WireError where it leaves the grammar. ``ended``: it came to an end."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._block: str | None = None
        self._index = 0
        self._signed = False
        self._state = "new"

    @property
    def ended(self) -> bool:
        """Whether ``message_stop`` or ``error`` has come."""
        return self._state == "ended"

    def feed(self, data: bytes) -> None:
        """Check what these bytes complete."""
        for payload in self._parser.feed(data):
            self.check(orjson.loads(payload))

    def check(self, event: dict[str, Any]) -> None:
        """Check one payload."""
        kind = event.get("type")
        if kind == "ping" and self._state != "ended":
            return
        if kind == "error" and self._state != "ended":
            self._require(isinstance(event.get("error"), dict) and "message" in event["error"], event)
            self._state = "ended"
            return
        match self._state, kind:
            case "new", "message_start":
                message = event["message"]
                self._require(message["content"] == [] and message["stop_reason"] is None, event)
                self._require({"input_tokens", "output_tokens"} <= message["usage"].keys(), event)
                self._state = "open"
            case "open", "content_block_start":
                self._require(self._block is None and event["index"] == self._index, event)
                self._block = event["content_block"]["type"]
                self._signed = False
                self._require(self._block in _DELTAS, event)
            case "open", "content_block_delta":
                delta = event["delta"]["type"]
                self._require(self._block is not None and event["index"] == self._index and not self._signed, event)
                self._require(delta in _DELTAS[self._block or ""], event)
                self._signed = delta == "signature_delta"
            case "open", "content_block_stop":
                self._require(self._block is not None and event["index"] == self._index, event)
                self._block = None
                self._index += 1
            case "open", "message_delta":
                self._require(self._block is None and event["delta"]["stop_reason"] is not None, event)
                self._require("output_tokens" in event["usage"], event)
                self._state = "said"
            case "said", "message_stop":
                self._state = "ended"
            case _:
                self._require(False, event)

    def _require(self, condition: bool, event: dict[str, Any]) -> None:
        if not condition:
            raise WireError(f"{event!r} may not come here (state {self._state}, block {self._block})")
