"""Penalties, bias and logprobs against the plain formulas over the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.protocol.request import Sampling
from neuron.engine.logprobs import logprobs
from neuron.engine.penalties import Adjuster, Adjustment
from neuron.engine.sampler import Plan, choose, prepare

VOCAB = 40
LOGITS = np.random.default_rng(0).normal(0, 3, VOCAB).astype(np.float32)
tokens = st.lists(st.integers(0, VOCAB - 1), max_size=100)
biases = st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100, width=32), max_size=5)


@settings(deadline=None)
@given(tokens, tokens, st.floats(0.5, 2, width=32), st.floats(-2, 2, width=32), st.floats(-2, 2, width=32), biases)
def test_every_token_gets_what_the_formulas_say(
    prompt: list[int], answer: list[int], repetition: float, presence: float, frequency: float, bias: dict[int, float]
) -> None:
    adjuster = Adjuster(Adjustment(repetition, presence, frequency, tuple(bias.items())), prompt)
    for token in answer:
        adjuster.add(token)
    before = LOGITS.copy()
    found = adjuster.apply(LOGITS)

    for token in range(VOCAB):
        wanted = float(LOGITS[token])
        if token in prompt or token in answer:
            wanted = wanted / repetition if wanted > 0 else wanted * repetition
        wanted -= frequency * answer.count(token) + presence * (token in answer)
        assert found[token] == pytest.approx(wanted + bias.get(token, 0.0), abs=1e-3)
    assert (before == LOGITS).all()


def test_a_text_of_many_different_tokens_is_counted_whole() -> None:
    logits = np.ones(1000, np.float32)
    adjuster = Adjuster(Adjustment(frequency=0.5), ())
    for token in [*range(500), *range(500), 7]:
        adjuster.add(token)
    found = adjuster.apply(logits)

    assert found[7] == -0.5 and (np.delete(found, 7)[:499] == 0).all() and (found[500:] == 1).all()


def test_a_bias_of_a_hundred_decides_and_of_minus_a_hundred_forbids() -> None:
    best = int(LOGITS.argmax())
    forced = Adjuster(Adjustment(bias=((7, 100.0),)), ())
    banned = Adjuster(Adjustment(bias=((best, -100.0),)), ())
    greedy, random = Plan(0.0, 0, 1.0, None), np.random.default_rng(0)

    assert choose(forced.apply(LOGITS), greedy, random) == 7
    assert choose(banned.apply(LOGITS), greedy, random) == int(np.argsort(LOGITS)[-2])


def test_min_p_leaves_what_has_that_share_of_the_likeliest() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    random = np.random.default_rng(0)

    def kept(min_p: float, **more: float) -> set[int | None]:
        plan = prepare(Sampling(min_p=min_p, **more))  # type: ignore[arg-type]
        return {choose(logits, plan, random) for _ in range(400)}

    assert kept(0.0) == {0, 1, 2, 3}
    assert kept(0.25) == {0, 1, 2}
    assert kept(0.5) == {0, 1}
    assert kept(1.0) == {0}
    assert kept(0.5, temperature=2.0) == {0, 1, 2}, "the temperature comes before it"
    assert kept(0.05, top_k=2) == {0, 1} and kept(0.5, top_p=0.9) == {0, 1}


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(min_p=-0.1),
        Sampling(min_p=1.5),
        Sampling(repetition_penalty=0.0),
        Sampling(presence_penalty=math.nan),
        Sampling(frequency_penalty=math.inf),
        Sampling(logit_bias=((1, 1.0), (1, 2.0))),
        Sampling(logit_bias=((1, math.nan),)),
    ],
)
def test_what_means_nothing_is_refused_by_name(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match=r"min_p|repetition_penalty|presence_penalty|frequency_penalty|logit_bias"):
        prepare(sampling)


def test_logprobs_are_the_models_own_and_add_up() -> None:
    told = logprobs(LOGITS, 3, VOCAB)
    wanted = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum())

    assert told.chosen == pytest.approx(wanted[3])
    assert [t for t, _ in told.top] == np.argsort(-LOGITS).tolist()
    assert sum(math.exp(p) for _, p in told.top) == pytest.approx(1)
    assert logprobs(LOGITS, 3, 0).top == ()
    masked = np.array([0.0, -np.inf, 0.0], np.float32)
    assert logprobs(masked, 0, 1).top == ((0, pytest.approx(-math.log(2))),)
