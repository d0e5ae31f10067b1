"""Cutting and metering a stream, whatever the sizes in which it arrives."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.gateway.sse import ChatStream
from tests.cortexd.gateway.fake_neuron import USAGE, Behaviour, stream_events

TRAPS = ("one", '"usage": {', '"finish_reason":"x"', '"error":{', "data: [DONE]\n\n", "é\r\n\r\n")
EVENTS = stream_events("m", Behaviour(words=TRAPS), usage=True)
RAW = b": ping\n\n" + b"".join(EVENTS)


@settings(deadline=None)
@given(st.lists(st.integers(1, len(RAW) - 1), unique=True), st.booleans())
def test_any_cut_gives_the_same_bytes_and_the_same_counts(cuts: list[int], include_usage: bool) -> None:
    stream = ChatStream(include_usage=include_usage)
    edges = [0, *sorted(cuts), len(RAW)]

    out = b"".join(stream.feed(RAW[a:b], now=float(b)) for a, b in pairwise(edges))
    stream.end(0.0)

    kept = EVENTS[:-1] if include_usage else EVENTS[:-2]
    assert out == b": ping\n\n" + b"".join(kept)
    assert stream.final == b"data: [DONE]\n\n"
    assert (stream.usage, stream.finish_reason, stream.error) == (USAGE, "stop", None)
    assert stream.token_chunks == len(TRAPS)


def test_lines_that_end_with_carriage_returns_are_events_too() -> None:
    stream = ChatStream(include_usage=True)
    raw = b"".join(EVENTS).replace(b"\n", b"\r\n")

    assert stream.feed(raw, 1.0) == raw[: -len(b"data: [DONE]\r\n\r\n")]
    assert stream.finish_reason == "stop"


def test_the_first_token_is_not_the_role() -> None:
    stream = ChatStream(include_usage=False)
    stream.feed(EVENTS[0], 1.0)
    assert stream.first_token_at is None
    stream.feed(EVENTS[1], 2.0)
    stream.feed(EVENTS[2], 3.0)

    assert (stream.first_token_at, stream.last_token_at) == (2.0, 3.0)


def test_an_error_in_the_stream_is_seen() -> None:
    stream = ChatStream(include_usage=False)
    event = b"data: " + json.dumps({"error": {"message": "no", "code": "c"}}).encode() + b"\n\n"

    assert stream.feed(event, 1.0) == event
    assert stream.error == {"message": "no", "code": "c"}


def test_a_last_event_without_its_empty_line_is_not_lost() -> None:
    stream = ChatStream(include_usage=False)
    stream.feed(EVENTS[1] + b"data: [DONE]", 1.0)
    stream.end(1.0)

    assert stream.final == b"data: [DONE]\n\n"
