"""Placement on fleets that are hard to get right."""

from __future__ import annotations

from pathlib import Path

from compiler import codes
from compiler.artifacts import read_artifact
from compiler.diagnostics import Diagnostic
from compiler.ir import ARENA_BYTES, PlacedFleet
from compiler.parse import parse
from compiler.place import place
from compiler.resolve import resolve
from compiler.validate import validate
from tests.compiler.artifacts import MIB, make_artifact

ARENA_MIB = ARENA_BYTES // MIB


def placed(tmp_path: Path, devices: list[tuple[str, str, int]], models: str) -> tuple[PlacedFleet, list[Diagnostic]]:
    """``devices``: (neuron, kind, MiB). Models name artifacts SIZE, whose replica takes SIZE MiB and no cache."""
    text = '[fleet]\nname = "t"\n[[hosts]]\nname = "h"\naddress = "127.0.0.1"\n'
    for n, neuron in enumerate(dict.fromkeys(name for name, _, _ in devices)):
        text += f'[[neurons]]\nname = "{neuron}"\nhost = "h"\nendpoint = "http://127.0.0.1:{4000 + n}"\n'
        for index, (_, kind, size) in enumerate(d for d in devices if d[0] == neuron):
            threads = "threads = 1\n" if kind == "cpu" else ""
            text += f'[[neurons.devices]]\nname = "{kind}-{index}"\nkind = "{kind}"\nindex = {index}\n'
            text += f"memory_mb = {size}\n{threads}"
    fleet, wrong = parse("fleet.toml", text)
    source, also = parse("models.toml", models)
    declared, invalid = validate(fleet, source)
    sources = {item.value.source for item in declared.models}
    for name in sources:
        size = int(name.removeprefix("path:"))
        make_artifact(tmp_path / str(size), kv=0, weights=(size - ARENA_MIB) * MIB)
    resolved, unresolved = resolve(declared, {s: read_artifact(s, tmp_path) for s in sources}, fleet, source)
    assert wrong + also + invalid + unresolved == []
    return place(resolved, source)


def model(name: str, size: int, more: str = "") -> str:
    return f'[[models]]\nid = "{name}"\nsource = "path:{size}"\ntask = "chat"\n{more}\n'


def where(fleet: PlacedFleet) -> dict[str, list[str]]:
    return {
        m.id: [f"{p.neuron}/{p.devices[0]}{'*' if p.pinned else ''}" for p in fleet.placements if p.model == m.id]
        for m in fleet.fleet.models
    }


def test_pinned_models_are_arranged_even_where_first_fit_fails(tmp_path: Path) -> None:
    # 600 goes to the roomiest (1100), then 500 + 500 do not fit into 1000 and what is left: unless 600 moves
    models = model("a", 600, "pinned = true") + model("b", 550, "pinned = true") + model("c", 550, "pinned = true")

    fleet, found = placed(tmp_path, [("n", "cuda", 1100), ("n", "cuda", 600)], models)

    assert found == []
    assert where(fleet) == {"a": ["n/cuda-1*"], "b": ["n/cuda-0*"], "c": ["n/cuda-0*"]}


def test_a_replica_is_pinned_on_each_named_neuron_and_may_live_on_the_others(tmp_path: Path) -> None:
    models = model("a", 600, 'pinned_on = ["y", "z"]')

    fleet, found = placed(tmp_path, [("x", "cuda", 1000), ("y", "cuda", 1000), ("z", "cpu", 1000)], models)

    assert found == []
    assert where(fleet) == {"a": ["y/cuda-0*", "z/cpu-0*", "x/cuda-0"]}
    assert [p.rank for p in fleet.placements] == [0, 1, 2]


def test_gpus_come_before_cpus_and_the_roomiest_device_of_a_neuron_is_taken(tmp_path: Path) -> None:
    devices = [("x", "cpu", 9000), ("y", "cuda", 1000), ("y", "cuda", 2000), ("z", "cuda", 1500), ("w", "cuda", 400)]

    fleet, found = placed(
        tmp_path, devices, model("a", 600) + model("p", 1200, 'pinned = true\ndevices = ["y/cuda-1"]')
    )

    assert found == []
    assert where(fleet)["a"] == ["z/cuda-0", "y/cuda-0", "x/cpu-0"]
    assert where(fleet)["p"] == ["y/cuda-1*"]


def test_what_fits_exactly_fits(tmp_path: Path) -> None:
    fleet, found = placed(tmp_path, [("n", "cpu", 600)], model("a", 600, "pinned = true"))

    assert found == [] and where(fleet) == {"a": ["n/cpu-0*"]}


def test_one_byte_too_much_is_an_error_with_the_sum(tmp_path: Path) -> None:
    _, found = placed(tmp_path, [("n", "cpu", 599)], model("a", 600))

    assert [d.code for d in found] == [codes.TOO_LARGE]
    assert "600 MiB (weights 344 MiB + KV 0 MiB" in found[0].message and "1 MiB too little" in found[0].message


def test_what_only_fits_without_the_pinned_ones_is_an_error_because_it_could_never_load(tmp_path: Path) -> None:
    _, found = placed(tmp_path, [("n", "cpu", 1000)], model("a", 600, "pinned = true") + model("b", 500))

    assert [d.code for d in found] == [codes.NO_ROOM_BESIDE_PINNED]


def test_many_pinned_models_that_cannot_fit_end_in_an_answer(tmp_path: Path) -> None:
    models = "".join(model(f"m{n}", 600, "pinned = true") for n in range(30))

    _, found = placed(tmp_path, [("n", "cuda", 1700)] * 12, models)

    assert [d.code for d in found] == [codes.PINNED_TOO_LARGE]
