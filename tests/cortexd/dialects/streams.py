"""Random event streams that a dialect can express, and the ways of tests through encoders and decoders."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

from hypothesis import strategies as st

from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PartEnded,
    PartKind,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Started,
    TextDelta,
    Timing,
    TokenLogprob,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.grammar import Grammar

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@dataclass(frozen=True)
class Can:
    """What a wire has words for."""

    kinds: tuple[PartKind, ...] = ("text", "reasoning", "tool_call")
    choices: int = 1
    borders: bool = True  # two parts of a kind in a row stay two, and a part may be empty
    signature: bool = True
    logprobs: bool = True
    token_bytes: bool = True
    timing: bool = True
    created: bool = True
    start_usage: bool = True
    stop_sequence: bool = True
    details: bool = True
    reason_is_told: bool = True  # by a word of its own, not by what the answer holds


@st.composite
def streams(draw: st.DrawFn, can: Can, *, failing: bool = True) -> list[Event]:
    """One whole stream."""
    count = draw(st.integers(1, can.choices))
    parts = [draw(_parts(can, choice)) for choice in range(count)]
    usage = Usage(draw(st.integers(1, 9)), 0) if can.start_usage and draw(st.booleans()) else None
    events: list[Event] = [Started("id-1", "m/x", 7 if can.created else 0, usage)]
    order = [i for i, found in enumerate(parts) for _ in found]
    random.Random(draw(st.integers(0, 9))).shuffle(order)
    left = [iter(found) for found in parts]
    events += [next(left[i]) for i in order]
    if failing and draw(st.booleans()):
        return [*events, Failed(ApiError(502, "api_error", "x", "cut ü", extras={"more": 1}))]
    reasons = [draw(_reasons(can, found)) for found in parts]
    timing = Timing(0.5, 0.25, 1.0) if can.timing and draw(st.booleans()) else None
    sequence = draw(texts) if can.stop_sequence and reasons[0] == "stop" and draw(st.booleans()) else None
    return [*events, Finished(reasons[0], draw(_usages(can)), timing, sequence, tuple(reasons[1:]))]


def _reasons(can: Can, parts: list[Event]) -> st.SearchStrategy[FinishReason]:
    calls = any(isinstance(e, PartStarted) and e.kind == "tool_call" for e in parts)
    if can.reason_is_told:
        told: tuple[FinishReason, ...] = ("stop", "length", "content_filter")
        return st.sampled_from((*told, "tool_calls") if "tool_call" in can.kinds else told)
    return st.sampled_from(("tool_calls" if calls else "stop", "length", "content_filter"))


@st.composite
def _usages(draw: st.DrawFn, can: Can) -> Usage:
    cached, reasoning = (draw(st.integers(0, 5)), draw(st.integers(0, 5))) if can.details else (0, 0)
    return Usage(cached + draw(st.integers(1, 9)), reasoning + draw(st.integers(0, 9)), cached, reasoning)


@st.composite
def _parts(draw: st.DrawFn, can: Can, choice: int) -> list[Event]:
    events: list[Event] = []
    previous: PartKind | None = None
    # a choice that never says anything cannot be told from none
    for index in range(draw(st.integers(0 if choice == 0 else 1, 4))):
        free = [k for k in can.kinds if can.borders or k != previous or k == "tool_call"]
        if not free:
            break
        kind = draw(st.sampled_from(free))
        least = 0 if can.borders or kind == "tool_call" else 1
        deltas = [_delta(draw, kind, choice, can) for _ in range(draw(st.integers(least, 3)))]
        if kind == "reasoning" and can.signature and draw(st.booleans()):
            deltas.append(ReasoningSignature(draw(texts), choice))
        call = (f"call_{choice}_{index}", draw(texts)) if kind == "tool_call" else (None, None)
        events += [PartStarted(index, kind, *call, choice), *deltas, PartEnded(index, choice)]
        previous = kind
    return events


def _delta(draw: st.DrawFn, kind: PartKind, choice: int, can: Can) -> Event:
    text = draw(texts)
    match kind:
        case "text":
            return TextDelta(text, choice, draw(_logprobs(can)) if can.logprobs and draw(st.booleans()) else ())
        case "reasoning":
            return ReasoningDelta(text, choice)
        case "refusal":
            return RefusalDelta(text, choice)
        case "tool_call":
            return ToolArgumentsDelta(text, choice)


@st.composite
def _logprobs(draw: st.DrawFn, can: Can) -> tuple[TokenLogprob, ...]:
    def token(name: str, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return TokenLogprob(name, -draw(st.integers(1, 64)) / 8, name.encode() if can.token_bytes else None, top)

    names = draw(st.lists(texts, min_size=1, max_size=2))
    return tuple(token(n, tuple(token(t) for t in draw(st.lists(texts, max_size=2, unique=True)))) for n in names)


class Encodes(Protocol):
    def encode(self, event: Event) -> bytes: ...


class Decodes(Protocol):
    def feed(self, data: bytes) -> list[Event]: ...
    def close(self) -> list[Event]: ...


class Watches(Protocol):
    ended: Any

    def feed(self, data: bytes) -> None: ...


def encode(encoder: Encodes, events: Iterable[Event], grammar: Watches) -> list[bytes]:
    """The bytes of each event; the whole obeys the wire's own grammar."""
    pieces = [encoder.encode(event) for event in events]
    for piece in pieces:
        grammar.feed(piece)
    assert grammar.ended
    return pieces


def decode(decoder: Decodes, wire: bytes, cuts: int | list[int]) -> list[Event]:
    """Feed in pieces: of one size, or cut at positions. What comes out obeys the protocol's grammar."""
    borders = list(range(0, len(wire), cuts)) if isinstance(cuts, int) else sorted(c % (len(wire) + 1) for c in cuts)
    edges = [0, *borders, len(wire)]
    events: list[Event] = []
    for start, stop in pairwise(edges):
        events += decoder.feed(wire[start:stop])
    events += decoder.close()
    grammar = Grammar()
    for event in events:
        grammar.check(event)
    assert grammar.ended
    return events


def joined(events: Iterable[Event]) -> list[Event]:
    """Neighbouring deltas of a part as one, empty ones gone: what was said, whatever its pieces were."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, ToolArgumentsDelta):
            if not event.json:
                continue
            if isinstance(last, ToolArgumentsDelta) and last.choice == event.choice:
                out[-1] = replace(last, json=last.json + event.json)
                continue
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
            if not event.text and not (isinstance(event, TextDelta) and event.logprobs):
                continue
            if type(last) is type(event) and last.choice == event.choice:  # type: ignore[union-attr]
                merged = replace(last, text=last.text + event.text)  # type: ignore[union-attr, call-arg, type-var]
                if isinstance(event, TextDelta):
                    merged = replace(merged, logprobs=merged.logprobs + event.logprobs)
                out[-1] = merged
                continue
        out.append(event)
    return out


def borderless(events: list[Event]) -> list[Event]:
    """The same on a wire without borders: a part (but a call) begins with its first delta, and ends when the next one
    of its choice begins, or at the very end.
    """
    out: list[Event] = []
    opening: dict[int, PartStarted] = {}
    closing: dict[int, PartEnded] = {}
    for event in events:
        if isinstance(event, Started):
            out.append(event)
        elif isinstance(event, Finished | Failed):
            out += [*(closing[choice] for choice in sorted(closing)), event]
        elif isinstance(event, PartEnded):
            closing[event.choice] = event
        elif isinstance(event, PartStarted) and event.kind != "tool_call":
            opening[event.choice] = event
        else:
            if (opened := opening.pop(event.choice, None)) is not None or isinstance(event, PartStarted):
                out += [each for each in (closing.pop(event.choice, None), opened) if each is not None]
            out.append(event)
    return out
