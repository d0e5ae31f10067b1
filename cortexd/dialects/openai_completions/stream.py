"""Events to server-sent events of text completions. A choice is one part of text; other parts have no place here."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.finish import TABLE
from cortexd.dialects.openai_completions.logprobs import encode_logprobs
from cortexd.dialects.openai_errors import encode_error
from cortexd.dialects.sse import COMMENT as KEEP_ALIVE
from cortexd.dialects.sse import DONE, data
from cortexd.dialects.usage import encode_timing, encode_usage
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PartEnded,
    PartStarted,
    Started,
    TextDelta,
    TokenLogprob,
)

__all__ = ["KEEP_ALIVE", "StreamEncoder"]


class StreamEncoder:
    """One stream. ``include_usage`` adds the last chunk with ``choices: []`` that carries usage and timing."""

    def __init__(self, *, include_usage: bool, request_id: str | None = None) -> None:
        """``request_id`` goes into the error event, where there is one."""
        self._include_usage = include_usage
        self._request_id = request_id
        self._started = Started("", "", 0)
        self._offsets: dict[int, int] = {}

    def keep_alive(self) -> bytes:
        """Bytes for a silence."""
        return KEEP_ALIVE

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; may be empty. Raises ValueError for a part that is no text."""
        match event:
            case Started():
                self._started = event
                return b""
            case PartStarted(kind="text") | PartEnded():
                return b""
            case TextDelta():
                return self._text(event)
            case Finished():
                return self._end(event)
            case Failed():
                return data(encode_error(event.error, self._request_id)) + DONE
            case _:
                raise ValueError(f"a text completion has no place for {event!r}")

    def _text(self, event: TextDelta) -> bytes:
        offset = self._offsets.get(event.choice, 0)
        self._offsets[event.choice] = offset + len(event.text)
        return self._chunk(event.choice, event.text, logprobs=event.logprobs, offset=offset)

    def _end(self, finished: Finished) -> bytes:
        end = self._chunk(0, "", finished.reason, stopped=finished.stop_sequence)
        for i, reason in enumerate(finished.others, 1):
            end += self._chunk(i, "", reason)
        if self._include_usage:
            body = envelope(self._started) | {"choices": [], "usage": encode_usage(finished.usage)}
            if finished.timing is not None:
                body["timing"] = encode_timing(finished.timing)
            end += data(body)
        return end + DONE

    def _chunk(
        self,
        index: int,
        text: str,
        finish: FinishReason | None = None,
        *,
        stopped: str | None = None,
        logprobs: tuple[TokenLogprob, ...] = (),
        offset: int = 0,
    ) -> bytes:
        choice: dict[str, Any] = {
            "index": index,
            "text": text,
            "logprobs": encode_logprobs(logprobs, offset) if logprobs else None,
            "finish_reason": None if finish is None else TABLE[finish].completions,
        }
        if stopped is not None:
            choice["stop_reason"] = stopped
        return data(envelope(self._started) | {"choices": [choice]})


def envelope(started: Started) -> dict[str, Any]:
    """What every chunk repeats."""
    return {"id": started.id, "object": "text_completion", "created": started.created, "model": started.model}
