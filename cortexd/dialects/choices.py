"""What the decoders of OpenAI's two wires with ``choices`` share: when each choice ended, and with what. Pure."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.decoding import Decoder, count
from cortexd.dialects.finish import from_chat
from cortexd.protocol.events import Event, Finished, FinishReason, Timing, Usage


class ChoicesDecoder(Decoder):
    """A decoder whose stream is over when all of its choices are; their number is told by nothing but their coming."""

    def __init__(self) -> None:
        super().__init__()
        self._reasons: dict[int, FinishReason] = {}
        self._usage = Usage(0, 0)
        self._timing: Timing | None = None
        self._stopped: str | None = None

    def _index(self, choice: dict[str, Any], most: int) -> int:
        """Which one it is. Raises ValueError for one beyond ``most``: an upstream must not fill our memory."""
        index = count(choice.get("index"))
        if index >= most:
            raise ValueError("too many choices")
        return index

    def _note_end(self, index: int, choice: dict[str, Any]) -> None:
        """Keep what it says about its end, if it does."""
        if (reason := choice.get("finish_reason")) is not None:
            self._reasons[index] = from_chat(str(reason))
        if index == 0 and isinstance(choice.get("stop_reason"), str):
            self._stopped = choice["stop_reason"]

    def _closed(self) -> list[Event]:
        choices = max([*self._parts, *self._reasons], default=0) + 1
        if any(i not in self._reasons for i in range(choices)):
            return super()._closed()
        others = tuple(self._reasons[i] for i in range(1, choices))
        return self._finish(Finished(self._reasons[0], self._usage, self._timing, self._stopped, others))
