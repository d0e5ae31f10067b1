"""A plain answer: the fold of the same events that a stream sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortexd.dialects.finish import TABLE
from cortexd.dialects.openai_completions.logprobs import encode_logprobs
from cortexd.dialects.openai_completions.stream import envelope
from cortexd.dialects.usage import encode_timing, encode_usage
from cortexd.protocol.events import Event, Failed, Finished, PartEnded, PartStarted, Started, TextDelta, TokenLogprob


def encode_response(events: Iterable[Event]) -> dict[str, Any]:
    """The ``text_completion`` object. Raises the ApiError of a stream that failed, ValueError without an end or for a
    part that is no text.
    """
    texts: dict[int, list[str]] = {}
    logprobs: dict[int, list[TokenLogprob]] = {}
    started = Started("", "", 0)
    for event in events:
        match event:
            case Started():
                started = event
            case PartStarted(kind="text") | PartEnded():
                pass
            case TextDelta():
                texts.setdefault(event.choice, []).append(event.text)
                logprobs.setdefault(event.choice, []).extend(event.logprobs)
            case Failed():
                raise event.error
            case Finished():
                choices: list[dict[str, Any]] = [
                    {
                        "index": i,
                        "text": "".join(texts.get(i, ())),
                        "logprobs": encode_logprobs(logprobs[i], 0) if logprobs.get(i) else None,
                        "finish_reason": TABLE[reason].completions,
                    }
                    for i, reason in enumerate((event.reason, *event.others))
                ]
                if event.stop_sequence is not None:
                    choices[0]["stop_reason"] = event.stop_sequence
                body = envelope(started) | {"choices": choices, "usage": encode_usage(event.usage)}
                return body if event.timing is None else body | {"timing": encode_timing(event.timing)}
            case _:
                raise ValueError(f"a text completion has no place for {event!r}")
    raise ValueError("the events have no end")
