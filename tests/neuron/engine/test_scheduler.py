from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron.engine.events import GenerationEnded, TokenProduced
from neuron.engine.kv import KvCorrupt, KvPool
from neuron.engine.sampler import Plan
from neuron.engine.scheduler import Decode, PrefillChunk, QueueFull, Scheduler
from neuron.engine.sequence import EngineRequest, Sequence

GREEDY = Plan(0.0, 0, 1.0, None)


def sequence(name: str, prompt: int, max_tokens: int = 4, at: float = 0.0) -> Sequence:
    return Sequence.of(EngineRequest(name, tuple(range(prompt)), GREEDY, (99,), max_tokens, at))


def scheduler(
    rows: int = 4, context: int = 64, chunk: int = 40, capacity: int | None = None, waiting: int = 8
) -> Scheduler:
    return Scheduler(KvPool(rows, context, capacity), chunk, waiting)


def run(s: Scheduler, steps: int) -> list[str]:
    """What ran: 'a' for a prompt chunk of a, '*ab' for a decode step of a and b. Every token is 7."""
    ran = []
    for now in range(steps):
        batch = s.schedule(float(now))
        if batch is None:
            break
        s.check_integrity()
        if isinstance(batch, PrefillChunk):
            ran.append(batch.sequence.request_id)
        else:
            ran.append("*" + "".join(q.request_id for q in batch.sequences))
        s.update(batch, [7] * len(batch.sampled), float(now) + 0.5)
        s.check_integrity()
    return ran


def test_prompt_chunks_and_answers_alternate() -> None:
    s = scheduler(chunk=128, context=300)
    s.add(sequence("a", 1, max_tokens=6))
    s.add(sequence("b", 100, max_tokens=2))

    # beside an answer the chunks have a quarter of their size
    assert run(s, 20) == ["a", "*a", "b", "*a", "b", "*a", "b", "*a", "b", "*ab"]


def test_a_long_prompt_does_not_starve_a_short_one() -> None:
    s = scheduler(chunk=10)
    s.add(sequence("a", 50, max_tokens=1))
    s.add(sequence("b", 5, max_tokens=1))

    assert run(s, 10)[:3] == ["a", "b", "a"]


def test_requests_are_admitted_in_order_when_rows_are_short() -> None:
    s = scheduler(rows=1)
    for name in "abc":
        s.add(sequence(name, 3, max_tokens=1))

    assert run(s, 10) == ["a", "b", "c"]


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    s = scheduler(rows=3, capacity=64)
    s.add(sequence("a", 40, max_tokens=2))
    s.add(sequence("b", 40, max_tokens=1))
    s.add(sequence("c", 2, max_tokens=1))

    assert run(s, 10) == ["a", "*a", "b", "c"]


def test_a_request_beyond_the_capacity_runs_alone() -> None:
    s = scheduler(rows=2, capacity=10)
    s.add(sequence("a", 30, max_tokens=1))

    assert run(s, 3) == ["a"]


def test_the_queue_is_bounded() -> None:
    s = scheduler(rows=1, waiting=2)
    for name in "abc":
        s.add(sequence(name, 3))

    with pytest.raises(QueueFull):
        s.add(sequence("d", 3))


@pytest.mark.parametrize("length", [0, 64, 100])
def test_a_prompt_that_no_row_holds_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 63"):
        scheduler().add(sequence("a", length))


def test_the_answer_ends_where_the_context_does() -> None:
    s = scheduler(rows=1, context=8)
    s.add(sequence("a", 5, max_tokens=100))

    assert run(s, 20) == ["a", "*a", "*a"]
    assert s.idle


def test_an_eos_ends_the_answer_and_is_not_published() -> None:
    s = scheduler()
    s.add(sequence("a", 3, at=-2.0))
    batch = s.schedule(1.0)
    assert batch is not None

    first = s.update(batch, [7], 2.0)
    batch = s.schedule(2.0)
    assert isinstance(batch, Decode)
    last = s.update(batch, [99], 5.0)

    assert first == [TokenProduced("a", 7)]
    assert last == [GenerationEnded("a", "stop", 3, 2, 0, queue_s=3.0, prefill_s=1.0, decode_s=3.0)]


def test_unusable_numbers_fail_their_own_sequence_only() -> None:
    s = scheduler()
    s.add(sequence("a", 1))
    s.add(sequence("b", 1))
    run(s, 3)
    batch = s.schedule(9.0)
    assert isinstance(batch, Decode) and len(batch.sequences) == 2

    events = s.update(batch, [None, 7], 9.0)

    assert [type(e).__name__ for e in events] == ["GenerationFailed", "TokenProduced"]
    s.check_integrity()


def test_the_integrity_check_sees_a_row_with_two_owners_and_a_lost_row() -> None:
    pool = KvPool(2, 8)
    row = pool.acquire(4)
    assert row == 0

    with pytest.raises(KvCorrupt, match="two owners"):
        pool.check_integrity([0, 0])
    with pytest.raises(KvCorrupt, match="rows owned"):
        pool.check_integrity([])
    with pytest.raises(KvCorrupt, match="promised"):
        pool.grow(0, 5)
    pool.release(0)
    with pytest.raises(KvCorrupt, match="twice"):
        pool.release(0)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_whatever_happens_the_books_agree_and_everybody_ends(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 4))
    s = scheduler(
        rows=rows, context=48, chunk=data.draw(st.integers(1, 20)), capacity=data.draw(st.integers(20, 200)), waiting=4
    )
    ended: list[str] = []
    alive: set[str] = set()
    stalled = 0
    for now in range(60):
        match data.draw(st.sampled_from(["add", "abort", "step", "step"])):
            case "add":
                name = f"r{now}"
                try:
                    s.add(sequence(name, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 6))))
                    alive.add(name)
                except QueueFull:
                    assert len(s.waiting) >= 4
            case "abort" if alive:
                name = data.draw(st.sampled_from(sorted(alive)))
                assert s.abort(name) is not None
                assert s.abort(name) is None
                alive.discard(name)
            case _:
                generating = bool(s.decoding)
                batch = s.schedule(float(now))
                assert (batch is None) == (not alive)
                if batch is None:
                    continue
                stalled = stalled + 1 if generating and isinstance(batch, PrefillChunk) else 0
                assert stalled <= 1, "an answer waited for more than one chunk"
                token = data.draw(st.sampled_from([7, 99]))
                for event in s.update(batch, [token] * len(batch.sampled), float(now)):
                    if isinstance(event, GenerationEnded):
                        ended.append(event.request_id)
                        alive.discard(event.request_id)
        s.check_integrity()
        assert {q.request_id for q in s.all()} == alive
    run(s, 2000)
    assert s.idle and s.kv.promised == 0
    assert len(ended) == len(set(ended))
