"""The policy of residency: who is loaded, who goes, who waits, who is refused."""

from __future__ import annotations

from dataclasses import replace

from cortexd.residency import (
    Defrag,
    Desired,
    DeviceState,
    Evict,
    EvictionPolicy,
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


def desired(*models: WantedModel, memory: int = 100, **policy: object) -> Desired:
    neurons = {p.neuron for m in models for p in m.placements} | {"a"}
    eviction = EvictionPolicy(**policy)  # type: ignore[arg-type]
    return Desired("g", {m.id: m for m in models}, {(n, "d0"): memory for n in neurons}, eviction)


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

    first = decide(want, observed(neuron()), (ask("m", NOW - 2, 1), ask("n", NOW - 1, 2)), NOW)

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


def test_lru_takes_the_longest_unused_and_priority_the_least_important_first() -> None:
    models = (wanted("m", 50, priority=9), wanted("old", 50, priority=5), wanted("low", 50, priority=1))
    seen = observed(neuron(resident("old", last_used=100), resident("low", last_used=200)))

    for strategy, expected in (("lru", "old"), ("priority", "low")):
        (action,) = decide(desired(*models, strategy=strategy), seen, (ask("m"),), NOW)
        assert isinstance(action, Evict) and action.model == expected and action.inputs["strategy"] == strategy


def test_also_with_lru_a_higher_priority_is_not_displaced() -> None:
    want = desired(wanted("m", 50), wanted("old", 50, priority=500), wanted("young", 50), strategy="lru")
    seen = observed(neuron(resident("old", last_used=1), resident("young", last_used=2)))

    assert [a.model for a in decide(want, seen, (ask("m"),), NOW) if isinstance(a, Evict)] == ["young"]


def test_a_model_that_queues_displaces_nobody_and_loads_once_there_is_room() -> None:
    want = desired(wanted("m", 60, on_pressure="queue"), wanted("r", 60))

    assert decide(want, observed(neuron(resident("r"))), (ask("m"),), NOW) == ()
    (action,) = decide(want, observed(neuron()), (ask("m"),), NOW)
    assert isinstance(action, Load)


def test_a_model_that_queues_is_refused_when_clients_no_longer_wait() -> None:
    want = replace(desired(wanted("m", 60, on_pressure="queue"), wanted("r", 60)), wait_s=60.0)
    seen = observed(neuron(resident("r")))

    assert decide(want, seen, (ask("m", NOW),), NOW + 59) == ()
    (refused,) = decide(want, seen, (ask("m", NOW),), NOW + 60)
    assert isinstance(refused, Refuse) and refused.later and "r would have to leave" in refused.reason


def test_a_model_that_refuses_says_at_once_who_is_in_the_way_and_that_later_may_help() -> None:
    want = desired(wanted("m", 60, on_pressure="refuse"), wanted("r", 60))

    (refused,) = decide(want, observed(neuron(resident("r"))), (ask("m"),), NOW)

    assert isinstance(refused, Refuse) and refused.later
    assert "m needs 60; r would have to leave" in refused.reason and 'on_pressure = "refuse"' in refused.reason


def test_no_room_ever_is_refused_for_good_whatever_on_pressure_says() -> None:
    for on_pressure in ("evict", "queue", "refuse"):
        want = desired(wanted("m", 60, on_pressure=on_pressure), wanted("p", 60, pinned=True))
        (refused,) = decide(want, observed(neuron(resident("p"))), (ask("m"),), NOW)
        assert isinstance(refused, Refuse) and not refused.later


def test_a_model_that_refuses_waits_for_a_neuron_that_only_has_its_hands_full() -> None:
    want = desired(wanted("m", 60, on_pressure="refuse"))

    assert decide(want, observed(neuron(busy=True)), (ask("m"),), NOW) == ()


def test_a_pinned_model_is_loaded_whatever_its_on_pressure_says() -> None:
    want = desired(wanted("p", 60, pinned=True, on_pressure="queue"), wanted("r", 60))

    assert isinstance(decide(want, observed(neuron(resident("r"))), (), NOW)[0], Evict)


def test_replicas_are_kept_on_different_neurons_without_a_request() -> None:
    want = desired(wanted("m", 60, "a", "b", "c", min_replicas=2))
    actions = decide(want, observed(neuron(), neuron(name="b"), neuron(name="c")), (), NOW)

    assert [(type(a), a.neuron) for a in actions] == [(Load, "a"), (Load, "b")]  # type: ignore[union-attr]
    there = observed(neuron(resident("m")), neuron(name="b", healthy=False), neuron(name="c"))
    assert [a.neuron for a in decide(want, there, (), NOW)] == ["c"]  # type: ignore[union-attr]


def test_a_replica_that_is_kept_neither_ages_nor_makes_room_but_for_a_pinned_model() -> None:
    kept = wanted("k", 60, min_replicas=1, idle_ttl_s=1)
    seen = observed(neuron(resident("k")))

    assert decide(desired(kept), seen, (), NOW) == ()
    (refused,) = decide(desired(kept, wanted("m", 60)), seen, (ask("m"),), NOW)
    assert isinstance(refused, Refuse)
    assert isinstance(decide(desired(kept, wanted("p", 60, pinned=True)), seen, (), NOW)[0], Evict)


def test_kept_replicas_use_free_room_before_they_displace_anybody() -> None:
    want = desired(wanted("m", 60, "a", "b", min_replicas=1), wanted("r", 60))

    (action,) = decide(want, observed(neuron(resident("r")), neuron(name="b")), (), NOW)
    assert isinstance(action, Load) and action.neuron == "b"
    full = observed(neuron(resident("r")), neuron(name="b", healthy=False))
    assert isinstance(decide(want, full, (), NOW)[0], Evict)


def test_a_second_replica_comes_when_the_first_is_saturated_and_room_is_free() -> None:
    model = wanted("m", 60, "a", "b", max_replicas=2, max_sequences=4)
    busy, calm = resident("m", in_flight=4), resident("m", in_flight=3)

    (action,) = decide(desired(model), observed(neuron(busy), neuron(name="b")), (), NOW)
    assert isinstance(action, Load) and action.neuron == "b"
    assert decide(desired(model), observed(neuron(calm), neuron(name="b")), (), NOW) == ()
    other = desired(model, wanted("r", 60, "b"))
    assert decide(other, observed(neuron(busy), neuron(resident("r"), name="b")), (), NOW) == ()
    alone = desired(replace(model, max_replicas=None))
    assert decide(alone, observed(neuron(busy), neuron(name="b")), (), NOW) == ()


def test_a_replica_too_many_leaves_when_it_is_idle() -> None:
    want = desired(wanted("m", 60, "a", "b", max_replicas=1))
    seen = observed(neuron(resident("m", last_used=2)), neuron(resident("m", last_used=1), name="b"))

    (action,) = decide(want, seen, (), NOW)

    assert isinstance(action, Evict) and "2 replicas, at most 1" in action.reason


def test_after_enough_evictions_an_idle_neuron_is_cleared_of_all_but_what_must_stay() -> None:
    models = (wanted("p", 10, pinned=True), wanted("k", 10, min_replicas=1), wanted("m", 10), wanted("n", 10))
    want = desired(*models, defrag_after_cycles=3)
    there = neuron(resident("p"), resident("k"), resident("m"), resident("n"))

    assert decide(want, observed(there, evictions={"a": 2}), (), NOW) == ()
    (action,) = decide(want, observed(there, evictions={"a": 3}), (), NOW)
    assert isinstance(action, Defrag) and action.models == ("m", "n")


def test_a_neuron_is_not_cleared_while_it_is_used_or_waited_for() -> None:
    want = desired(wanted("m", 10), wanted("n", 95, priority=0), defrag_after_cycles=1)
    for there in (resident("m", in_flight=1), resident("m", last_used=NOW - 1), resident("m", "loading")):
        assert decide(want, observed(neuron(there), evictions={"a": 9}), (), NOW) == ()
    waited = decide(want, observed(neuron(resident("m")), evictions={"a": 9}), (ask("n"),), NOW)
    assert not any(isinstance(a, Defrag) for a in waited)
    assert not decide(
        replace(want, eviction=EvictionPolicy()), observed(neuron(resident("m")), evictions={"a": 9}), (), NOW
    )
