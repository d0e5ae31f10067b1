"""The policy of residency: who is loaded, who goes, who waits, who is refused."""

from __future__ import annotations

from dataclasses import replace

from cortexd.residency import (
    Desired,
    DeviceState,
    Evict,
    Failure,
    Fulfil,
    Load,
    NeuronState,
    Observed,
    OpenRequest,
    PlacementWish,
    Refuse,
    ResidentState,
    WantedModel,
    decide,
    retry_at,
)

NOW = 1000.0


def wanted(id: str, need: int, *neurons: str, pinned: bool = False, **more: object) -> WantedModel:
    wishes = tuple(PlacementWish(n, ("d0",), pinned) for n in neurons or ("a",))
    return replace(WantedModel(id, need, wishes), **more)  # type: ignore[arg-type]


def desired(*models: WantedModel, memory: int = 100) -> Desired:
    neurons = {p.neuron for m in models for p in m.placements} | {"a"}
    return Desired("g", {m.id: m for m in models}, {(n, "d0"): memory for n in neurons})


def resident(model: str, state: str = "loaded", in_flight: int = 0, last_used: float = 0.0) -> ResidentState:
    return ResidentState(model, state, in_flight, 0, last_used)


def neuron(
    *residents: ResidentState,
    name: str = "a",
    healthy: bool = True,
    busy: bool = False,
    kind: str = "cpu",
    used: int = 0,
) -> NeuronState:
    return NeuronState(name, healthy, busy, {"d0": DeviceState(kind, 100, used)}, {r.model: r for r in residents})


def observed(*neurons: NeuronState, **more: object) -> Observed:
    return Observed({n.name: n for n in neurons}, **more)  # type: ignore[arg-type]


def ask(model: str, at: float = NOW, id: int = 1) -> OpenRequest:
    return OpenRequest(id, model, "queued", at)


def test_without_a_generation_nothing_is_done() -> None:
    assert decide(Desired(None, {}), observed(neuron(resident("m"))), (ask("m"),), NOW) == ()


def test_a_waiting_request_loads_its_model_where_it_fits() -> None:
    (action,) = decide(desired(wanted("m", 60)), observed(neuron()), (ask("m"),), NOW)

    assert isinstance(action, Load)
    assert (action.model, action.neuron, action.requests) == ("m", "a", (1,))


def test_a_request_for_a_loaded_model_is_fulfilled() -> None:
    (action,) = decide(desired(wanted("m", 60)), observed(neuron(resident("m"))), (ask("m"),), NOW)

    assert action == Fulfil(1, "m", "a", "m is loaded on a")


def test_a_request_follows_a_load_that_is_under_way() -> None:
    seen = observed(neuron(resident("m", "loading"), busy=True))

    assert decide(desired(wanted("m", 60)), seen, (ask("m"),), NOW) == ()


def test_the_longest_unused_idle_resident_makes_room() -> None:
    want = desired(wanted("m", 50), wanted("old", 50), wanted("young", 50))
    seen = observed(neuron(resident("young", last_used=900), resident("old", last_used=800)))

    (action,) = decide(want, seen, (ask("m"),), NOW)

    assert isinstance(action, Evict) and action.model == "old"
    assert action.inputs["for"] == "m" and action.requests == (1,)


def test_no_more_is_evicted_than_is_needed() -> None:
    want = desired(wanted("m", 60), wanted("small", 10), wanted("large", 80))
    seen = observed(neuron(resident("small", last_used=1), resident("large", last_used=2)))

    assert [a.model for a in decide(want, seen, (ask("m"),), NOW)] == ["large"]


def test_a_pinned_resident_stays_and_the_request_is_refused_with_the_sums() -> None:
    want = desired(wanted("m", 60), wanted("p", 50, pinned=True))

    (action,) = decide(want, observed(neuron(resident("p"))), (ask("m"),), NOW)

    assert isinstance(action, Refuse)
    assert "a/d0 has 50 bytes free, m needs 60" in action.reason and "pinned" in action.reason


def test_a_busy_resident_stays_and_the_request_waits() -> None:
    want = desired(wanted("m", 60), wanted("b", 50))

    assert decide(want, observed(neuron(resident("b", in_flight=1))), (ask("m"),), NOW) == ()


def test_a_resident_that_was_just_found_busy_is_left_alone_for_a_moment() -> None:
    want = desired(wanted("m", 60), wanted("b", 50))
    seen = observed(neuron(resident("b")), held={("b", "a"): NOW + 1})

    assert decide(want, seen, (ask("m"),), NOW) == ()
    assert len(decide(want, seen, (ask("m"),), NOW + 1)) == 1


def test_a_model_that_was_used_a_moment_ago_is_not_displaced_at_once() -> None:
    want = desired(wanted("m", 60), wanted("r", 50))
    seen = observed(neuron(resident("r", last_used=NOW)))

    assert decide(want, seen, (ask("m"),), NOW + 2) == ()
    assert len(decide(want, seen, (ask("m"),), NOW + 3)) == 1


def test_a_higher_priority_is_not_displaced_and_an_equal_one_is() -> None:
    seen = observed(neuron(resident("r")))
    higher = desired(wanted("m", 60), wanted("r", 60, priority=200))
    equal = desired(wanted("m", 60), wanted("r", 60))

    assert isinstance(decide(higher, seen, (ask("m"),), NOW)[0], Refuse)
    assert isinstance(decide(equal, seen, (ask("m"),), NOW)[0], Evict)


def test_a_neuron_gets_one_load_at_a_time() -> None:
    want = desired(wanted("m", 30), wanted("n", 30))

    first = decide(want, observed(neuron()), (ask("m", 1, 1), ask("n", 2, 2)), NOW)

    assert [a.model for a in first] == ["m"]


def test_a_free_neuron_is_preferred_over_an_eviction() -> None:
    want = desired(wanted("m", 60, "a", "b"), wanted("r", 60))

    (action,) = decide(want, observed(neuron(resident("r")), neuron(name="b")), (ask("m"),), NOW)

    assert isinstance(action, Load) and action.neuron == "b"


def test_a_failed_load_is_tried_elsewhere_and_not_again_before_its_time() -> None:
    failures = {("m", "a"): Failure(1, NOW, "artifact file is missing")}
    both = observed(neuron(), neuron(name="b"), failures=failures)
    one = observed(neuron(), failures=failures)

    assert decide(desired(wanted("m", 60, "a", "b")), both, (ask("m"),), NOW)[0].neuron == "b"  # type: ignore[union-attr]
    (refused,) = decide(desired(wanted("m", 60)), one, (ask("m"),), NOW)
    assert isinstance(refused, Refuse) and "artifact file is missing" in refused.reason
    assert isinstance(decide(desired(wanted("m", 60)), one, (ask("m"),), NOW + 5)[0], Load)


def test_the_back_off_doubles_and_ends_at_five_minutes() -> None:
    waits = [retry_at(Failure(n, 0.0, "x")) for n in (1, 2, 3, 50)]

    assert waits == [5, 10, 20, 300]


def test_a_request_waits_for_a_neuron_that_restarts_and_is_refused_when_it_does_not() -> None:
    want, seen = desired(wanted("m", 60)), observed(neuron(healthy=False))

    assert decide(want, seen, (ask("m", NOW),), NOW + 29) == ()
    (refused,) = decide(want, seen, (ask("m", NOW),), NOW + 30)
    assert isinstance(refused, Refuse) and "a does not answer" in refused.reason


def test_a_request_for_a_model_that_is_no_longer_declared_is_refused() -> None:
    (refused,) = decide(desired(wanted("m", 1)), observed(neuron()), (ask("gone"),), NOW)

    assert isinstance(refused, Refuse) and "not in the current generation" in refused.reason


def test_a_pinned_model_that_is_not_resident_is_loaded_without_a_request() -> None:
    want = desired(wanted("p", 60, pinned=True))

    (action,) = decide(want, observed(neuron()), (), NOW)

    assert isinstance(action, Load) and action.requests == ()
    assert decide(want, observed(neuron(busy=True)), (), NOW) == ()
    assert decide(want, observed(neuron(resident("p", "loading"))), (), NOW) == ()


def test_a_pinned_model_displaces_a_higher_priority_and_takes_precedence_over_requests() -> None:
    want = desired(wanted("p", 60, pinned=True), wanted("r", 60, priority=500), wanted("m", 40))

    (action,) = decide(want, observed(neuron(resident("r"))), (ask("m"),), NOW)

    assert isinstance(action, Evict) and action.model == "r"


def test_memory_that_others_hold_on_a_gpu_counts_and_host_memory_does_not() -> None:
    want = desired(wanted("m", 60))

    assert isinstance(decide(want, observed(neuron(kind="cuda", used=50)), (ask("m"),), NOW)[0], Refuse)
    assert isinstance(decide(want, observed(neuron(kind="cpu", used=99)), (ask("m"),), NOW)[0], Load)


def test_an_idle_model_leaves_after_its_idle_time_and_a_pinned_one_never() -> None:
    for pinned, expected in ((False, 1), (True, 0)):
        want = desired(wanted("m", 60, pinned=pinned, idle_ttl_s=100))
        seen = observed(neuron(resident("m", last_used=NOW - 100)))

        assert len(decide(want, seen, (), NOW)) == expected
        assert decide(want, seen, (), NOW - 1) == ()


def test_what_is_not_declared_leaves_when_it_is_idle() -> None:
    want = desired(wanted("m", 1))

    (action,) = decide(want, observed(neuron(resident("stray"), resident("m"))), (), NOW)

    assert isinstance(action, Evict) and action.model == "stray"
    assert decide(want, observed(neuron(resident("stray", in_flight=1))), (), NOW) == ()
