from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.protocol.request import Sampling
from neuron.engine.sampler import Plan, choose, prepare

LOGITS = np.array([1.0, 3.0, 2.0, -1.0, 3.0], np.float32)


def draws(plan: Plan, logits: np.ndarray = LOGITS, count: int = 2000) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.bincount([choose(logits, plan, random) for _ in range(count)], minlength=len(logits)) / count


def test_a_request_wins_over_the_model_and_the_model_over_the_engine() -> None:
    plan = prepare(Sampling(temperature=0.5), Sampling(temperature=0.9, top_p=0.8))

    assert plan == Plan(temperature=0.5, top_k=0, top_p=0.8, seed=None)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=-0.1), Sampling(temperature=float("nan")), Sampling(top_p=1.1), Sampling(top_k=-2)],
)
def test_a_value_that_means_nothing_is_refused_by_name(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match=r"temperature|top_p|top_k"):
        prepare(sampling)


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    assert choose(LOGITS, Plan(0.0, 0, 1.0, None), np.random.default_rng()) == 1


def test_sampling_follows_the_probabilities() -> None:
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum()

    np.testing.assert_allclose(draws(Plan(1.0, 0, 1.0, None)), expected, atol=0.03)


def test_a_low_temperature_sharpens_and_a_tiny_one_is_greedy() -> None:
    assert draws(Plan(0.3, 0, 1.0, None))[2] < draws(Plan(1.0, 0, 1.0, None))[2]
    assert set(np.flatnonzero(draws(Plan(1e-300, 0, 1.0, None)))) == {1, 4}


def test_top_k_leaves_exactly_k_tokens_even_among_ties() -> None:
    assert set(np.flatnonzero(draws(Plan(1.0, 1, 1.0, None)))) == {1}
    assert set(np.flatnonzero(draws(Plan(1.0, 3, 1.0, None)))) == {1, 2, 4}


def test_top_p_leaves_the_smallest_set_that_reaches_it() -> None:
    # 0.39, 0.39, 0.14, ...: two tokens hold 0.78
    assert set(np.flatnonzero(draws(Plan(1.0, 0, 0.7, None)))) == {1, 4}
    assert set(np.flatnonzero(draws(Plan(1.0, 0, 0.8, None)))) == {1, 2, 4}
    assert set(np.flatnonzero(draws(Plan(1.0, 0, 0.0, None)))) == {1}


def test_top_p_counts_within_top_k() -> None:
    # of the three likeliest, 0.42 + 0.42 reach 0.8
    assert set(np.flatnonzero(draws(Plan(1.0, 3, 0.8, None)))) == {1, 4}


def test_a_masked_token_never_comes_and_nan_is_reported() -> None:
    masked = np.array([0.0, -np.inf, 0.0], np.float32)
    broken = np.array([0.0, np.nan, 0.0], np.float32)

    assert draws(Plan(1.0, 0, 1.0, None), masked)[1] == 0
    assert choose(broken, Plan(0.0, 0, 1.0, None), np.random.default_rng()) is None
    assert choose(np.full(3, -np.inf, np.float32), Plan(1.0, 0, 1.0, None), np.random.default_rng()) is None


@given(
    seed=st.integers(0, 2**32),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 50),
    top_p=st.floats(0, 1),
    spread=st.floats(0.0, 10),
)
@settings(max_examples=60, deadline=None)
def test_the_shortcuts_choose_what_sorting_everything_would(
    seed: int, temperature: float, top_k: int, top_p: float, spread: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, 2000).astype(np.float32)
    plan = Plan(temperature, top_k, top_p, None)

    token = choose(logits, plan, np.random.default_rng(seed))

    order = np.lexsort((np.arange(2000), -logits))
    order = order[: top_k or None]
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / temperature)
    shares = np.cumsum(weights) / weights.sum()
    allowed = order if top_p == 1.0 else order[: int(np.searchsorted(shares, top_p - 1e-9)) + 2]
    # weights that are the same number are equally likely, whichever logit is larger by a hair
    border = weights[len(allowed) - 1] * (1 - 1e-6)
    assert token in order and np.exp((float(logits[token]) - float(logits.max())) / temperature) >= border
