"""Server-sent events, both directions, for all dialects."""

from __future__ import annotations

from typing import Any

import orjson

# A comment: every parser of server-sent events skips it.
COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
# An upstream that never ends its event must not fill our memory.
MAX_EVENT_BYTES = 32 << 20


def data(body: dict[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def named(body: dict[str, Any]) -> bytes:
    """An event that is named as its payload's ``type``."""
    return b"event: " + str(body["type"]).encode() + b"\n" + data(body)


class Parser:
    """Feed bytes cut anywhere; out come the ``data`` of whole events. Names are left out: payloads repeat them."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that these bytes complete. Raises ValueError for one above ``MAX_EVENT_BYTES``."""
        at = len(self._rest)
        self._rest += piece
        events: list[bytes] = []
        start = 0
        while (end := self._rest.find(b"\n", at)) >= 0:
            line = bytes(self._rest[start:end]).removesuffix(b"\r")
            start = at = end + 1
            if line.startswith(b"data:"):
                self._size += len(line)
                self._data.append(line[5:].removeprefix(b" "))
            elif not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        del self._rest[:start]
        if self._size + len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event is larger than {MAX_EVENT_BYTES >> 20} MiB")
        return events
