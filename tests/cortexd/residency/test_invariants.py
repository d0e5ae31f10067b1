"""What holds in every fleet: pinned and busy residents stay, nothing is oversubscribed, and rounds come to an end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.residency import (
    Defrag,
    Desired,
    DeviceState,
    Evict,
    EvictionPolicy,
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
)
from cortexd.residency.memory import resident_shares

NEURONS = ("a", "b")
DEVICES = ("d0", "d1")
MODELS = tuple("klmnopq")
NOW = 10_000.0
World = tuple[Desired, Observed, tuple[OpenRequest, ...]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    placement = st.builds(
        PlacementWish,
        st.sampled_from(NEURONS),
        st.lists(st.sampled_from(DEVICES), min_size=1, max_size=2, unique=True).map(tuple),
        st.booleans(),
    )
    wishes = st.lists(placement, max_size=2, unique_by=lambda p: p.neuron).map(tuple)
    ttl = st.one_of(st.none(), st.integers(1, 5000).map(float))
    ids = draw(st.sets(st.sampled_from(MODELS)))
    models = {
        m: WantedModel(
            m,
            draw(st.integers(1, 120)),
            draw(wishes),
            draw(st.integers(1, 3)),
            draw(ttl),
            draw(st.sampled_from(["evict", "evict", "queue", "refuse"])),
            draw(st.integers(0, 2)),
            draw(st.sampled_from([None, 1, 2])),
        )
        for m in ids
    }
    memory = {(n, d): draw(st.integers(20, 200)) for n in NEURONS for d in DEVICES}
    neurons = {}
    for name in NEURONS:
        state = st.sampled_from(["loaded"] * 4 + ["loading", "draining", "unloading", "failed"])
        residents = {
            m: ResidentState(m, draw(state), draw(st.sampled_from([0, 0, 1])), 0, draw(st.integers(0, 10_000)))
            for m in draw(st.sets(st.sampled_from(MODELS), max_size=3))
        }
        used = {d: draw(st.integers(0, 60)) for d in DEVICES}
        devices = {d: DeviceState(draw(st.sampled_from(["cpu", "cuda"])), memory[name, d], used[d]) for d in DEVICES}
        neurons[name] = NeuronState(name, draw(st.integers(0, 9)) > 0, draw(st.integers(0, 4)) == 0, devices, residents)
    asked = draw(st.lists(st.sampled_from(MODELS), max_size=4, unique=True))
    requests = tuple(OpenRequest(i, m, "queued", NOW - i) for i, m in enumerate(asked))
    policy = EvictionPolicy(draw(st.sampled_from(["lru", "priority"])), draw(st.integers(0, 3)))
    evictions = {name: draw(st.integers(0, 4)) for name in NEURONS}
    return Desired("g", models, memory, policy), Observed(neurons, evictions=evictions), requests


def held(want: Desired, neuron: NeuronState, device: str) -> int:
    return sum(share.get(device, 0) for share in resident_shares(want, neuron).values())


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_pinned_and_busy_residents_are_never_evicted(world: World) -> None:
    want, seen, requests = world

    for action in decide(want, seen, requests, NOW):
        for name in leaving(action):
            neuron = seen.neurons[action.neuron]  # type: ignore[union-attr]
            wish = want.models[name].placement_on(neuron.name) if name in want.models else None
            assert neuron.residents[name].idle
            assert not (wish and wish.pinned)
            assert neuron.healthy and not neuron.busy


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_who_queues_or_refuses_displaces_nobody(world: World) -> None:
    want, seen, requests = world

    for action in decide(want, seen, requests, NOW):
        if isinstance(action, Evict) and "for" in action.inputs:
            model = want.models[action.inputs["for"]]
            wish = model.placement_on(action.neuron)
            assert model.on_pressure == "evict" or (wish and wish.pinned)
        if isinstance(action, Refuse) and action.later:
            assert want.models[action.model].on_pressure == "refuse"


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_replicas_never_exceed_their_maximum_nor_fall_below_what_is_kept(world: World) -> None:
    want, seen, requests = world
    actions = decide(want, seen, requests, NOW)

    for model in want.models.values():
        there = [n for w in model.placements if (n := seen.neurons[w.neuron]).healthy and model.id in n.residents]
        holding = sum(n.residents[model.id].state != "failed" for n in there)
        loaded = sum(n.residents[model.id].state == "loaded" for n in there)
        loads = [a.neuron for a in actions if isinstance(a, Load) and a.model == model.id]
        pinned = [w.neuron for w in model.placements if w.pinned]  # these are loaded whatever is there already
        if model.max_replicas is not None and set(loads) - set(pinned):
            assert holding + len(loads) <= max(model.max_replicas, model.min_replicas, len(pinned))
        gone = [a for a in actions if model.id in leaving(a) and not for_pinned(want, a)]
        gone = [a for a in gone if model.placement_on(a.neuron)]  # type: ignore[union-attr]
        assert not gone or loaded - len(gone) >= model.min_replicas


@settings(max_examples=400, deadline=None)
@given(
    strategy=st.sampled_from(["lru", "priority"]),
    there=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9_000)), min_size=1, max_size=6),
    count=st.integers(1, 6),
)
def test_residents_leave_in_the_order_of_the_strategy(strategy: str, there: list[tuple[int, int]], count: int) -> None:
    wish = (PlacementWish("a", ("d0",)),)
    models = {f"m{i}": WantedModel(f"m{i}", 10, wish, priority) for i, (priority, _) in enumerate(there)}
    models["new"] = WantedModel("new", 10 * count, wish, 2)
    residents = {f"m{i}": ResidentState(f"m{i}", "loaded", 0, 0, used) for i, (_, used) in enumerate(there)}
    want = Desired("g", models, {("a", "d0"): 10 * len(there)}, EvictionPolicy(strategy))
    seen = Observed({"a": NeuronState("a", True, False, {"d0": DeviceState("cpu", 10 * len(there), 0)}, residents)})

    actions = decide(want, seen, (OpenRequest(1, "new", "queued", NOW),), NOW)

    may_go = [(priority, used, f"m{i}") for i, (priority, used) in enumerate(there) if priority <= 2]
    order = sorted(may_go, key=lambda m: m if strategy == "priority" else (m[1], m[0], m[2]))
    victims = [a.model for a in actions if isinstance(a, Evict)]
    assert victims == ([m[2] for m in order[:count]] if len(order) >= count else [])


def leaving(action: object) -> tuple[str, ...]:
    """The models that an action unloads."""
    if isinstance(action, Defrag):
        return action.models
    return (action.model,) if isinstance(action, Evict) else ()


def for_pinned(want: Desired, action: object) -> bool:
    if not isinstance(action, Evict) or "for" not in action.inputs:
        return False
    wish = want.models[action.inputs["for"]].placement_on(action.neuron)
    return wish is not None and wish.pinned


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_a_load_always_fits_beside_what_holds_memory(world: World) -> None:
    want, seen, requests = world
    loads = [a for a in decide(want, seen, requests, NOW) if isinstance(a, Load)]

    assert len({a.neuron for a in loads}) == len(loads)
    for action in loads:
        neuron = seen.neurons[action.neuron]
        assert neuron.healthy and not neuron.busy
        model = want.models[action.model]
        wish = model.placement_on(action.neuron)
        assert wish is not None
        for device in wish.devices:
            there = held(want, neuron, device)
            if neuron.devices[device].kind == "cuda":
                there = max(there, neuron.devices[device].used_bytes)
            assert there + model.need_bytes / len(wish.devices) <= want.device_bytes[action.neuron, device]


def carried_out(seen: Observed, action: object) -> Observed:
    """The fleet after an action went well."""
    if not isinstance(action, Load | Evict | Defrag):
        return seen
    neuron = seen.neurons[action.neuron]
    residents = dict(neuron.residents)
    evictions = dict(seen.evictions)
    if isinstance(action, Load):
        residents[action.model] = ResidentState(action.model, "loaded", 0, 0, NOW)
    for name in leaving(action):
        del residents[name]
    if isinstance(action, Defrag):
        evictions[action.neuron] = 0
    neurons = {**seen.neurons, action.neuron: replace(neuron, residents=residents)}
    return replace(seen, neurons=neurons, evictions=evictions)


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_rounds_come_to_rest_and_every_answered_request_is_answered_once(world: World) -> None:
    want, seen, requests = world
    open_requests = {request.id: request for request in requests}

    for _ in range(60):
        actions = decide(want, seen, tuple(open_requests.values()), NOW)
        if not actions:
            break
        for action in actions:
            seen = carried_out(seen, action)
            if isinstance(action, Fulfil | Refuse):
                del open_requests[action.request]
    else:
        raise AssertionError("the rounds go on for ever")
