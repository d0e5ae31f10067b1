"""What was proven fits under the controller's arithmetic: pinned at once, everything else after evictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.diagnostics import has_errors
from compiler.ir import Fleet, PlacedFleet
from compiler.place import place
from compiler.rows import desired_rows
from cortexd.residency.memory import find_room
from cortexd.residency.state import Desired, DeviceState, NeuronState, PlacementWish, ResidentState, WantedModel
from tests.compiler.place.fleets import MIB, fleet, model

neuron = st.lists(st.tuples(st.sampled_from(["cuda", "cpu"]), st.integers(300, 2500)), min_size=1, max_size=3)
measured = st.dictionaries(st.sampled_from(["cuda", "cpu"]), st.integers(1, 900 * MIB), max_size=2)


@st.composite
def fleets(draw: Any) -> Fleet:
    neurons = {f"n{i}": devices for i, devices in enumerate(draw(st.lists(neuron, min_size=1, max_size=4)))}
    models = []
    for n in range(draw(st.integers(1, 6))):
        names = draw(st.lists(st.sampled_from(sorted(neurons)), unique=True, max_size=2))
        lowest = draw(st.integers(0, 3))
        models.append(
            model(
                n,
                draw(st.integers(257, 900)),
                pinned=bool(names) or draw(st.booleans()),
                pinned_on=tuple(names),
                min_devices=draw(st.sampled_from([1, 1, 1, 2, 3])),
                replicas={"min": lowest, "max": max(lowest, len(names), 1)} if draw(st.booleans()) else {},
                measured=draw(measured),
            )
        )
    return fleet(neurons, models)[0]


def wanted(placed: PlacedFleet) -> Desired:
    """As the controller reads the rows."""
    tables = desired_rows(placed, "0")
    kinds = {(d["neuron"], d["name"]): d["kind"] for d in tables["device"]}
    models = {}
    for row in tables["model"]:
        shares: Mapping[str, int] = row["settings"].get("share_bytes", {})
        wishes = tuple(
            PlacementWish(
                p["neuron"], tuple(p["devices"]), p["pinned"], shares.get(kinds[p["neuron"], p["devices"][0]])
            )
            for p in sorted(tables["placement"], key=lambda p: p["rank"])
            if p["model"] == row["id"]
        )
        models[row["id"]] = WantedModel(row["id"], row["need_bytes"], wishes)
    return Desired("g", models, {(d["neuron"], d["name"]): d["memory_bytes"] for d in tables["device"]})


def state(desired: Desired, name: str, residents: list[str]) -> NeuronState:
    devices = {d: DeviceState("cpu", size, 0) for (owner, d), size in desired.device_bytes.items() if owner == name}
    return NeuronState(name, True, False, devices, {m: ResidentState(m, "loaded", 0, 0, 0.0) for m in residents})


@settings(max_examples=300, deadline=None)
@given(fleets(), st.randoms())
def test_every_proven_placement_can_be_loaded(whole: Fleet, random: Any) -> None:
    placed, found = place(whole, fleet({}, whole.models)[1])
    if has_errors(found):
        return
    desired = wanted(placed)
    for name in {n.name for n in whole.neurons}:
        here = [(m, w) for m in desired.models.values() if (w := m.placement_on(name))]
        resident: list[str] = []
        for one, wish in (entry for entry in here if entry[1].pinned):
            room = find_room(desired, state(desired, name, resident), one, wish)
            assert room.fits and room.victims == (), room.explanation
            resident.append(one.id)
        others = [entry for entry in here if not entry[1].pinned]
        random.shuffle(others)
        for one, wish in others:
            room = find_room(desired, state(desired, name, resident), one, wish)
            assert room.fits, room.explanation
            resident = [m for m in resident if m not in room.victims] + [one.id]


@settings(max_examples=200, deadline=None)
@given(fleets())
def test_replicas_are_as_many_as_declared(whole: Fleet) -> None:
    placed, found = place(whole, fleet({}, whole.models)[1])
    if has_errors(found):
        return
    for m in whole.models:
        mine = [p for p in placed.placements if p.model == m.id]
        assert len({p.neuron for p in mine}) == len(mine) >= 1
        assert sum(p.pinned for p in mine) == max(m.replicas.get("min", 0), len(m.pinned_on), int(m.pinned))
        assert len(mine) <= m.replicas.get("max", 10_000)
        assert set(m.pinned_on) <= {p.neuron for p in mine if p.pinned}
