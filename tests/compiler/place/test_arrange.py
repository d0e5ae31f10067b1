"""The arrangement of what is pinned, against every arrangement there is."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import codes
from compiler.ir import Fleet
from compiler.place import place
from compiler.place.proof import kept
from tests.compiler.place.fleets import MIB, fleet, model

sizes = st.integers(257, 900)
neuron = st.lists(st.tuples(st.sampled_from(["cuda", "cpu"]), st.integers(300, 1800)), min_size=1, max_size=2)


@st.composite
def fleets(draw: Any) -> Fleet:
    neurons = {f"n{i}": devices for i, devices in enumerate(draw(st.lists(neuron, min_size=1, max_size=3)))}
    models = []
    for n in range(draw(st.integers(1, 5))):
        more: dict[str, Any] = draw(
            st.sampled_from([{}, {"pinned": True}, {"pinned": True}, {"pinned": True}, {"replicas": {"min": 2}}])
        )
        if more.get("pinned"):
            more = more | {"pinned_on": draw(st.sampled_from([(), (), *((name,) for name in neurons)]))}
        models.append(model(n, draw(sizes), **more))
    return fleet(neurons, models)[0]


def arrangements(whole: Fleet) -> list[list[int]]:
    """What is left on each device, for every way to put the pinned replicas."""
    devices = whole.devices
    slots = []
    for m in whole.models:
        slots += [(m, name) for name in m.pinned_on] + [(m, None)] * (kept(m) - len(m.pinned_on))
    found = []
    for chosen in itertools.product(range(len(devices)), repeat=len(slots)):
        left = [d.memory_bytes for d in devices]
        used = set()
        good = True
        for (m, name), d in zip(slots, chosen, strict=True):
            left[d] -= m.estimated_share
            where = (m.id, devices[d].neuron)
            good = good and name in (None, devices[d].neuron) and where not in used and left[d] >= 0
            used.add(where)
        if good:
            found.append(left)
    return found


@settings(max_examples=250, deadline=None)
@given(fleets())
def test_what_is_said_about_the_pinned_models_is_what_trying_everything_says(whole: Fleet) -> None:
    _, found = place(whole, fleet({}, whole.models)[1])

    told = {d.code for d in found}
    if told & {codes.TOO_LARGE, codes.TOO_FEW_NEURONS}:
        return  # those models are left out of the rest
    every = arrangements(whole)
    assert (codes.PINNED_TOO_LARGE in told) == (every == [])
    for m in whole.models:
        hopeless = bool(every) and not kept(m) and all(max(left) < m.estimated_share for left in every)
        assert hopeless == any(d.code == codes.NO_ROOM_BESIDE_PINNED and f"`{m.id}`" in d.message for d in found)


def test_the_pinned_models_move_together_to_make_room_for_one_that_is_not() -> None:
    # roomiest first puts one on each GPU, and then 1000 fits nowhere
    models = [model(0, 500, pinned=True), model(1, 500, pinned=True), model(2, 1000)]
    whole, source = fleet({"a": [("cuda", 1000)], "b": [("cuda", 1000)]}, models)

    placed, found = place(whole, source)

    assert found == []
    assert {p.neuron for p in placed.placements if p.pinned}.isdisjoint(
        p.neuron for p in placed.placements if not p.pinned
    )


def test_a_search_that_gives_up_says_so_and_claims_nothing() -> None:
    # even sizes that would fill every device but for 1 MiB: no sum tells that the last one finds no place
    sizes = [260 + 2 * ((n * 37) % 61) for n in range(36)]
    models = [model(n, size, pinned=True) for n, size in enumerate(sizes)]
    whole, source = fleet({f"n{d}": [("cuda", sum(sizes) // 12 | 1)] for d in range(12)}, models)

    _, found = place(whole, source)

    assert [d.code for d in found] == [codes.SEARCH_GAVE_UP]
    assert "may fit or not" in found[0].message


def test_one_hard_neuron_does_not_make_the_others_hard() -> None:
    neurons = {f"n{i}": [("cuda", 1100), ("cuda", 600)] for i in range(100)}
    models = [
        model(3 * i + k, size, pinned=True, pinned_on=(f"n{i}",))
        for i in range(100)
        for k, size in enumerate((600, 550, 550))
    ]
    whole, source = fleet(neurons, models)  # type: ignore[arg-type]

    placed, found = place(whole, source)

    assert found == [] and sum(p.pinned for p in placed.placements) == 300


def test_the_neuron_whose_own_pins_do_not_fit_is_named() -> None:
    models = [model(0, 600, pinned_on=("a",), pinned=True), model(1, 600, pinned_on=("a",), pinned=True)]
    models.append(model(2, 600, pinned=True))
    whole, source = fleet({"a": [("cuda", 1000)], "b": [("cuda", 1000)]}, models)

    _, found = place(whole, source)

    assert [d.code for d in found] == [codes.PINNED_TOO_LARGE]
    assert "m0 on a 600 MiB + m1 on a 600 MiB = 1200 MiB; there is a/cuda-0 1000 MiB" in found[0].message


def test_replicas_that_are_kept_lie_on_different_neurons() -> None:
    models = [model(0, 400, replicas={"min": 2}, pinned_on=("a",), pinned=True)]
    whole, source = fleet({"a": [("cuda", 2000), ("cuda", 2000)], "b": [("cpu", 500)]}, models)

    placed, found = place(whole, source)

    assert found == []
    assert [(p.neuron, p.pinned) for p in placed.placements] == [("a", True), ("b", True)]


def test_more_replicas_than_neurons_is_an_error_with_their_names() -> None:
    two = [model(0, 400, replicas={"min": 2})]
    whole, source = fleet({"a": [("cuda", 500), ("cuda", 500)], "b": [("cuda", 300)]}, two)

    _, found = place(whole, source)

    assert [d.code for d in found] == [codes.TOO_FEW_NEURONS]
    assert "2 replicas of `m0`" in found[0].message and "fits on 1: a" in found[0].message


def test_a_part_of_a_model_on_each_of_several_devices_is_rounded_up_and_has_an_arena() -> None:
    three = model(0, 1000, min_devices=3)
    share = -(-(1000 - 256) * MIB // 3) + 256 * MIB
    for more, codes_found in ((0, []), (-1, [codes.TOO_LARGE])):
        room = (share + MIB - 1) // MIB + more
        whole, source = fleet({"a": [("cuda", room)] * 3, "b": [("cuda", 5000)]}, [three])

        placed, found = place(whole, source)

        assert [d.code for d in found] == codes_found
        if not found:
            assert [p.devices for p in placed.placements] == [("cuda-0", "cuda-1", "cuda-2")]
            assert placed.placements[0].share_bytes == share


def test_no_replica_is_spread_over_gpus_and_cpus_or_over_neurons() -> None:
    whole, source = fleet({"a": [("cuda", 900), ("cpu", 900)], "b": [("cuda", 900)]}, [model(0, 400, min_devices=2)])

    _, found = place(whole, source)

    assert [d.code for d in found] == [codes.NO_DEVICE]
    assert "no neuron has 2 devices of one kind" in found[0].message
