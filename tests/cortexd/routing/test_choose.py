"""Routing decisions, as values."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.routing.choose import ColdLoad, Refuse, Route, choose, fallbacks
from cortexd.routing.snapshot import EMPTY, KeyView, ModelView, NeuronView, ResidentView, Snapshot

NEURONS = {name: NeuronView(name, f"http://{name}", healthy=True) for name in ("n1", "n2", "n3")}
MODEL = ModelView("big/model", "chat", 4096, ("n1", "n2"))
FLEET = replace(
    EMPTY,
    generation="g",
    neurons=NEURONS,
    models={
        MODEL.id: MODEL,
        "embed": ModelView("embed", "embed", 512, ("n1",)),
        "lost": ModelView("lost", "chat", 1, ()),
    },
    aliases={"default": MODEL.id},
)


def held(*residents: ResidentView) -> Snapshot:
    return replace(FLEET, residents={MODEL.id: residents})


def at(neuron: str, state: str = "loaded", in_flight: int = 0, queue_depth: int = 0) -> ResidentView:
    return ResidentView(neuron, MODEL.id, state, in_flight, queue_depth)


def unhealthy(snapshot: Snapshot, *names: str) -> Snapshot:
    return replace(snapshot, neurons={n: replace(v, healthy=n not in names) for n, v in snapshot.neurons.items()})


def test_an_alias_goes_where_its_model_is() -> None:
    assert choose(held(at("n1")), "default", {}, 0) == Route(MODEL, ("n1",))


def test_the_least_busy_replica_comes_first() -> None:
    snapshot = held(at("n1", in_flight=1, queue_depth=1), at("n2", in_flight=1))

    assert choose(snapshot, MODEL.id, {}, 0) == Route(MODEL, ("n2", "n1"))
    assert choose(snapshot, MODEL.id, {("n2", MODEL.id): 3}, 0) == Route(MODEL, ("n1", "n2"))


def test_equals_are_ordered_by_our_own_requests_then_by_placement() -> None:
    snapshot = held(at("n2", in_flight=2), at("n1", in_flight=2))

    assert choose(snapshot, MODEL.id, {}, 0) == Route(MODEL, ("n1", "n2"))
    assert choose(snapshot, MODEL.id, {("n1", MODEL.id): 1}, 0) == Route(MODEL, ("n2", "n1"))


def test_a_neuron_that_refused_lately_comes_last_until_its_time_is_over() -> None:
    snapshot = held(at("n1"), at("n2"))

    assert choose(snapshot, MODEL.id, {}, 9.9, down_until={"n1": 10}) == Route(MODEL, ("n2", "n1"))
    assert choose(snapshot, MODEL.id, {}, 10.0, down_until={"n1": 10}) == Route(MODEL, ("n1", "n2"))


def test_only_what_is_loaded_on_a_reachable_neuron_serves() -> None:
    for state in ("loading", "draining", "unloading", "failed"):
        assert choose(held(at("n1", state)), MODEL.id, {}, 0) == ColdLoad(MODEL)
    assert choose(unhealthy(held(at("n1"), at("n2")), "n1"), MODEL.id, {}, 0) == Route(MODEL, ("n2",))
    assert choose(FLEET, MODEL.id, {}, 0) == ColdLoad(MODEL)


def test_refusals_say_whether_waiting_helps() -> None:
    def refused(snapshot: Snapshot, name: str) -> tuple[int, str | None, int | None]:
        decision = choose(snapshot, name, {}, 0)
        assert isinstance(decision, Refuse)
        return decision.error.status, decision.error.code, decision.error.retry_after

    assert refused(FLEET, "nobody") == (404, "model_not_found", None)
    assert refused(FLEET, "embed") == (400, "wrong_modality", None)
    assert refused(FLEET, "lost") == (404, "service_unavailable", None)
    assert refused(unhealthy(FLEET, "n1", "n2", "n3"), MODEL.id) == (503, "service_unavailable", 5)
    assert refused(unhealthy(FLEET, "n1", "n2"), MODEL.id) == (503, "service_unavailable", 3)
    assert refused(EMPTY, MODEL.id) == (404, "model_not_found", None)


def test_a_typing_mistake_is_answered_with_the_nearest_name() -> None:
    decision = choose(FLEET, "big/modle", {}, 0)

    assert isinstance(decision, Refuse)
    assert "Did you mean 'big/model'?" in decision.error.message


def test_a_key_gets_only_its_models_under_any_of_their_names() -> None:
    key = KeyView("ci", "acme", frozenset({MODEL.id}))

    assert choose(held(at("n1")), "default", {}, 0, key=key) == Route(MODEL, ("n1",))
    decision = choose(held(at("n1")), "lost", {}, 0, key=key)
    assert isinstance(decision, Refuse) and decision.model is not None
    assert (decision.error.status, decision.error.code) == (403, "insufficient_permissions")
    assert "'ci' may not use the model 'lost'" in decision.error.message
    assert choose(held(at("n1")), MODEL.id, {}, 0, key=KeyView("all", "acme")) == Route(MODEL, ("n1",))


def test_a_near_name_that_the_key_may_not_use_is_not_given_away() -> None:
    decision = choose(FLEET, "embde", {}, 0, key=KeyView("ci", "acme", frozenset({MODEL.id})))

    assert isinstance(decision, Refuse) and "embed" not in decision.error.message.replace("'embde'", "")


def test_more_output_than_the_limit_is_refused_with_the_limit() -> None:
    limited = replace(MODEL, output_limit=100)
    fleet = replace(FLEET, models={MODEL.id: limited})

    assert choose(fleet, MODEL.id, {}, 0, output=("max_tokens", 100)) == ColdLoad(limited)
    assert choose(fleet, MODEL.id, {}, 0) == ColdLoad(limited)
    decision = choose(fleet, MODEL.id, {}, 0, output=("max_completion_tokens", 101))
    assert isinstance(decision, Refuse)
    assert (decision.error.status, decision.error.param) == (400, "max_completion_tokens")
    assert "at most 100 tokens (limit.output)" in decision.error.message


def test_fallbacks_are_those_of_the_model_behind_the_name() -> None:
    fleet = replace(FLEET, models={**FLEET.models, MODEL.id: replace(MODEL, fallback=("embed", MODEL.id, "lost"))})

    assert fallbacks(fleet, "default") == ("embed", "lost")
    assert fallbacks(fleet, "nobody") == ()


@settings(deadline=None)
@given(
    states=st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.sampled_from(["loaded", "loading", "failed"])),
    sick=st.sets(st.sampled_from(["n1", "n2", "n3"])),
    own=st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 5)),
)
def test_every_route_names_each_usable_replica_once(
    states: dict[str, str], sick: set[str], own: dict[str, int]
) -> None:
    snapshot = unhealthy(held(*(at(n, s) for n, s in states.items())), *sick)
    usable = {n for n, s in states.items() if s == "loaded" and n not in sick}

    decision = choose(snapshot, MODEL.id, {(n, MODEL.id): c for n, c in own.items()}, 0)

    if usable:
        assert isinstance(decision, Route)
        assert sorted(decision.replicas) == sorted(usable)
    else:
        assert not isinstance(decision, Route)
