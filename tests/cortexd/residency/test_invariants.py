"""What holds in every fleet: pinned and busy residents stay, nothing is oversubscribed, and rounds come to an end."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.residency import (
    Desired,
    DeviceState,
    Evict,
    Fulfil,
    Load,
    NeuronState,
    Observed,
    OpenRequest,
    PlacementWish,
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
        m: WantedModel(m, draw(st.integers(1, 120)), draw(wishes), draw(st.integers(1, 3)), draw(ttl)) for m in ids
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
    return Desired("g", models, memory), Observed(neurons), requests


def held(want: Desired, neuron: NeuronState, device: str) -> int:
    return sum(share.get(device, 0) for share in resident_shares(want, neuron).values())


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_pinned_and_busy_residents_are_never_evicted(world: World) -> None:
    want, seen, requests = world

    for action in decide(want, seen, requests, NOW):
        if isinstance(action, Evict):
            neuron = seen.neurons[action.neuron]
            wish = want.models[action.model].placement_on(action.neuron) if action.model in want.models else None
            assert neuron.residents[action.model].idle
            assert not (wish and wish.pinned)
            assert neuron.healthy and not neuron.busy


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
    if not isinstance(action, Load | Evict):
        return seen
    neuron = seen.neurons[action.neuron]
    residents = dict(neuron.residents)
    if isinstance(action, Load):
        residents[action.model] = ResidentState(action.model, "loaded", 0, 0, NOW)
    else:
        del residents[action.model]
    return replace(seen, neurons={**seen.neurons, action.neuron: replace(neuron, residents=residents)})


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
            if isinstance(action, Fulfil) or not isinstance(action, Load | Evict):
                del open_requests[action.request]
    else:
        raise AssertionError("the rounds go on for ever")
