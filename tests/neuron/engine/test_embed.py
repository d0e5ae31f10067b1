"""Embeddings in steps, over an encoder that counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuron.engine.embed import EmbeddingEngine, EmbeddingRequest
from neuron.engine.events import Embedded, GenerationFailed, TokenEvent
from neuron.session.base import SessionError, Vectors


class Encoder:
    """The vector of a text is its tokens' sum, its length and its first token."""

    context, vocab, dimensions, kv_bytes = 64, 100, 3, 0

    def __init__(self, tokens_at_once: int = 12) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.fault: SessionError | None = None
        self._tokens = tokens_at_once

    def most(self, length: int) -> int:
        return max(1, self._tokens // length)

    def embed(self, tokens: NDArray[np.int64]) -> Vectors:
        if self.fault is not None:
            raise self.fault
        self.calls.append(tokens.shape)
        assert len(tokens) <= self.most(tokens.shape[1])
        columns = [tokens.sum(axis=1), np.full(len(tokens), tokens.shape[1]), tokens[:, 0]]
        return np.stack(columns, axis=1).astype(np.float32)

    def warm(self, limit_s: float) -> int | None:
        return None

    def close(self) -> None:
        pass


def vector(text: tuple[int, ...]) -> list[float]:
    return [sum(text), len(text), text[0]]


def engine(encoder: Encoder) -> tuple[EmbeddingEngine, list[TokenEvent]]:
    events: list[TokenEvent] = []
    ticks = itertools.count()
    return EmbeddingEngine(encoder, events.append, lambda: float(next(ticks))), events


def run(made: EmbeddingEngine) -> int:
    steps = 0
    while made.step():
        steps += 1
    return steps


texts = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9).map(tuple), min_size=1, max_size=12).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=5), st.integers(1, 40))
def test_every_text_gets_its_own_vector_whatever_else_is_asked_for(
    requests: list[tuple[tuple[int, ...], ...]], tokens_at_once: int
) -> None:
    made, events = engine(Encoder(tokens_at_once))
    for i, inputs in enumerate(requests):
        made.submit(EmbeddingRequest(str(i), inputs, 0.0))
    run(made)

    assert made.idle and {e.request_id for e in events} == {str(i) for i in range(len(requests))}
    for event in events:
        inputs = requests[int(event.request_id)]
        assert isinstance(event, Embedded)
        assert event.vectors.tolist() == [vector(text) for text in inputs]
        assert event.prompt_tokens == sum(map(len, inputs))


def test_texts_of_one_length_share_a_call_over_requests() -> None:
    encoder = Encoder(12)
    made, _ = engine(encoder)
    made.submit(EmbeddingRequest("a", ((1, 2, 3), (4, 5), (6, 7, 8)), 0.0))
    made.submit(EmbeddingRequest("b", ((9, 9, 9), (1, 1)), 0.0))

    assert run(made) == 2
    assert encoder.calls == [(3, 3), (2, 2)]


def test_a_short_request_does_not_wait_for_the_whole_of_a_long_one() -> None:
    made, events = engine(Encoder(1))
    made.submit(EmbeddingRequest("long", tuple((i,) for i in range(50)), 0.0))
    made.submit(EmbeddingRequest("short", ((1, 2),), 0.0))
    for _ in range(2):
        made.step()

    assert [e.request_id for e in events] == ["short"]


def test_who_gives_up_costs_no_further_step_and_counts_what_was_computed() -> None:
    made, events = engine(Encoder(1))
    made.submit(EmbeddingRequest("a", ((1,), (2,), (3,)), 0.0))
    made.step()
    made.abort("a")
    made.abort("a")

    assert made.idle and not made.step()
    assert events == [GenerationFailed("a", "the request was aborted", 1, 0)]


def test_a_fault_passes_through_and_ends_everything_once() -> None:
    encoder = Encoder()
    made, events = engine(encoder)
    made.submit(EmbeddingRequest("a", ((1,),), 0.0))
    made.submit(EmbeddingRequest("b", ((1,),), 0.0))
    encoder.fault = SessionError("broken")
    with pytest.raises(SessionError):
        made.step()
    made.fail_all("it failed")

    assert sorted(e.request_id for e in events) == ["a", "b"]
    assert made.idle


def test_numbers_that_are_not_finite_are_no_vectors() -> None:
    encoder = Encoder()
    encoder.embed = lambda tokens: np.full((len(tokens), 3), np.nan, np.float32)  # type: ignore[method-assign]
    made, events = engine(encoder)
    made.submit(EmbeddingRequest("a", ((1,),), 0.0))
    run(made)

    assert isinstance(events[0], GenerationFailed) and "finite" in events[0].message
