"""Which event may follow which on the wire of responses.

``created in_progress (item)* (completed | incomplete | failed)``, with ``in_progress`` anywhere between and ``error``
as an end without a response. An item: ``output_item.added``, its content from ``added`` over ``delta`` to ``done``,
``output_item.done``. ``sequence_number`` counts every event from 0.
"""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects.sse import Parser
from cortexd.dialects.wire import WireError

# delta event -> item type, done event, member of the done event that holds the whole
_DELTAS = {
    "output_text.delta": ("message", "output_text.done", "text"),
    "refusal.delta": ("message", "refusal.done", "refusal"),
    "reasoning_summary_text.delta": ("reasoning", "reasoning_summary_text.done", "text"),
    "function_call_arguments.delta": ("function_call", "function_call_arguments.done", "arguments"),
}
_DONE = {done: (item, member) for item, done, member in _DELTAS.values()}
_PARTS = {"content_part": "message", "reasoning_summary_part": "reasoning"}
_ENDS = ("completed", "incomplete", "failed")


class WireGrammar:
    """Feed the bytes of a stream; raises WireError where it leaves the grammar. ``ended``: it came to an end."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._sequence = 0
        self._begun: str | None = None
        self._item: dict[str, Any] | None = None
        self._part_open = False
        self._said: list[str] = []
        self._whole: str | None = None
        self._items: list[dict[str, Any]] = []
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Check what these bytes complete."""
        for payload in self._parser.feed(data):
            self.check(orjson.loads(payload))

    def check(self, event: dict[str, Any]) -> None:
        """Check one payload."""
        self._require(not self.ended and event.get("sequence_number") == self._sequence, event)
        self._sequence += 1
        kind = str(event.get("type"))
        if kind == "error":
            self._require("message" in event and "code" in event, event)
            self.ended = True
            return
        self._require(kind.startswith("response."), event)
        self._step(kind.removeprefix("response."), event)

    def _step(self, kind: str, event: dict[str, Any]) -> None:
        if kind in ("created", "in_progress", *_ENDS):
            self._response(kind, event)
        elif kind == "output_item.added":
            self._require(self._begun is not None and self._item is None, event)
            self._require(event["output_index"] == len(self._items), event)
            self._item = event["item"]
            self._said, self._whole = [], None
        else:
            item = self._item
            self._require(item is not None and event["output_index"] == len(self._items), event)
            if item is not None:
                self._within(kind, item, event)

    def _response(self, kind: str, event: dict[str, Any]) -> None:
        response = event["response"]
        if kind == "created":
            self._require(self._begun is None, event)
            self._begun = response["id"]
        self._require(self._begun == response["id"], event)
        self._require(response["status"] == ("in_progress" if kind == "created" else kind), event)
        if kind in _ENDS:
            self.ended = True
        if kind in ("completed", "incomplete"):
            self._require(self._item is None and response["output"] == self._items, event)
            self._require(response["usage"] is not None, event)
            self._require((kind == "incomplete") == (response["incomplete_details"] is not None), event)

    def _within(self, kind: str, item: dict[str, Any], event: dict[str, Any]) -> None:
        if kind == "output_item.done":
            done = event["item"]
            self._require(not self._part_open and (done["id"], done["type"]) == (item["id"], item["type"]), event)
            self._require(done["type"] != "function_call" or done["arguments"] == self._whole, event)
            self._items.append(done)
            self._item = None
            return
        self._require(event["item_id"] == item["id"], event)
        name, _, step = kind.rpartition(".")
        if name in _PARTS:
            self._require(item["type"] == _PARTS[name] and self._part_open == (step == "done"), event)
            self._part_open = step == "added"
            part = event["part"]
            if step == "added":
                self._said, self._whole = [], None
            self._require(step == "added" or part.get("text", part.get("refusal")) == self._whole, event)
        elif kind in _DELTAS:
            self._require(item["type"] == _DELTAS[kind][0] and self._whole is None, event)
            self._require(self._part_open or item["type"] == "function_call", event)
            self._said.append(event["delta"])
        else:
            self._require(kind in _DONE and item["type"] == _DONE[kind][0] and self._whole is None, event)
            self._whole = event[_DONE[kind][1]]
            self._require(self._whole == "".join(self._said), event)

    def _require(self, condition: bool, event: dict[str, Any]) -> None:
        if not condition:
            raise WireError(f"{event!r} may not come here (event {self._sequence}, item {self._item!r})")
