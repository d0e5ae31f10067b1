"""Prompts that begin as an earlier one did: what is reused, of whom, and what nobody may notice of it."""

from __future__ import annotations

import numpy as np
import pytest

from neuron.engine.events import GenerationEnded, TokenEvent, TokenProduced
from neuron.engine.kv import KvCorrupt, KvPool
from neuron.engine.loop import Engine
from neuron.engine.sampler import Plan
from neuron.engine.sequence import EngineRequest
from tests.neuron.engine.test_loop import fake

GREEDY = Plan(0.0, 0, 1.0, None)


class Talk:
    def __init__(self, rows: int = 2) -> None:
        self.session = fake(rows)
        self.events: list[TokenEvent] = []
        self.engine = Engine(self.session, self.events.append, lambda: 0.0)

    def submit(self, name: str, prompt: tuple[int, ...], max_tokens: int = 5, *, sibling: bool = False) -> None:
        self.engine.submit(EngineRequest(name, prompt, GREEDY, (), max_tokens, 0.0, sibling=sibling))

    def finish(self, name: str) -> tuple[tuple[int, ...], GenerationEnded]:
        while not self.engine.idle:
            self.engine.step()
            self.engine.scheduler.check_integrity()
        end = next(e for e in self.events if isinstance(e, GenerationEnded) and e.request_id == name)
        return tuple(e.token for e in self.events if isinstance(e, TokenProduced) and e.request_id == name), end

    def say(self, name: str, prompt: tuple[int, ...], max_tokens: int = 5) -> tuple[tuple[int, ...], GenerationEnded]:
        self.submit(name, prompt, max_tokens)
        return self.finish(name)


FIRST = tuple(range(1, 21))


def test_the_next_turn_computes_only_what_is_new_and_says_the_same() -> None:
    talk = Talk()
    answer, _ = talk.say("a", FIRST)
    turn = (*FIRST, *answer, 50, 51)
    talk.session.calls.clear()
    said, end = talk.say("b", turn)

    # the last token of the first answer was chosen, and never computed
    assert (end.prompt_tokens, end.cached_tokens) == (len(turn), len(FIRST) + 4)
    assert talk.session.calls[0] == ("prefill", 3)
    assert said == Talk().say("b", turn)[0]


def test_the_same_prompt_again_computes_its_last_token() -> None:
    talk = Talk()
    first, _ = talk.say("a", FIRST)
    talk.session.calls.clear()
    again, end = talk.say("b", FIRST)

    assert again == first and end.cached_tokens == len(FIRST) - 1
    assert talk.session.calls[0] == ("prefill", 1)


def test_what_a_free_row_keeps_survives_the_steps_of_others() -> None:
    talk = Talk(rows=3)
    for name in "abc":  # "b" and "c" keep rows above
        talk.submit(name, (ord(name), *FIRST), 3 if name == "a" else 20)
    talk.finish("c")
    idle = [size for call, size in talk.session.calls if call == "decode"]
    assert idle.count(3) > 10, "the free row 0 was part of these steps"
    said, end = talk.say("e", (ord("a"), *FIRST, 9))

    assert end.cached_tokens == 1 + len(FIRST)
    assert said == Talk().say("e", (ord("a"), *FIRST, 9))[0]


def test_an_aborted_prompt_is_of_use_and_a_faulty_row_is_not() -> None:
    talk = Talk()
    talk.submit("a", FIRST)
    talk.engine.step()
    talk.engine.step()
    talk.engine.abort("a")
    _, end = talk.say("b", FIRST)
    assert end.cached_tokens == 16

    pool = KvPool(1, 64)
    row = pool.acquire(10)
    assert row == 0
    pool.grow(row, 4)
    with pytest.raises(KvCorrupt):
        pool.release(row, (1, 2, 3, 4, 5))
    pool.release(row)
    assert pool.acquire(40, tuple(range(40))) == 0 and pool.lengths == [0]


def keep(pool: KvPool, tokens: tuple[int, ...]) -> int:
    row = pool.acquire(len(tokens), tokens)
    assert row is not None
    pool.grow(row, len(tokens) - pool.lengths[row])
    pool.release(row, tokens)
    return row


def test_a_stranger_takes_an_empty_row_then_the_one_left_the_longest_ago() -> None:
    pool = KvPool(3, 64)
    random = np.random.default_rng(0)
    talks = [tuple(int(t) for t in random.integers(0, 1000, 30)) for _ in range(5)]

    assert [keep(pool, talk) for talk in talks[:3]] == [0, 1, 2]
    assert keep(pool, (*talks[0], 5)) == 0  # its own again: now "1" is the oldest
    assert [keep(pool, talk) for talk in talks[3:]] == [1, 2]
    assert keep(pool, (*talks[0], 5, 6)) == 0


def test_a_short_common_beginning_does_not_take_a_long_talk_away() -> None:
    pool = KvPool(2, 128)
    head = tuple(range(20))
    assert keep(pool, (*head, *range(500, 600))) == 0

    assert keep(pool, (*head, 7)) == 1, "20 tokens saved are not worth 100 lost"
    assert keep(pool, (*head, 7, 8)) == 1
    assert keep(pool, (*head, *range(500, 560), 9)) == 0, "80 are worth 40"


def test_a_further_choice_counts_neither_prompt_nor_reuse() -> None:
    talk = Talk()
    talk.say("a", FIRST)
    talk.submit("b", FIRST, sibling=True)
    _, end = talk.finish("b")

    assert (end.prompt_tokens, end.cached_tokens) == (0, 0)
