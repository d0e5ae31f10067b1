"""Few candidates for each model, spread over the fleet; and work that grows with the fleet, not with its square."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.compile import compile_once, write_fleet
from bench.plot import line_chart
from compiler.artifacts import read_artifact
from compiler.ir import Fleet
from compiler.parse import parse
from compiler.pipeline import compile_files
from compiler.place import place
from compiler.place.candidates import CANDIDATES
from compiler.resolve import resolve
from compiler.source import Source
from compiler.validate import validate
from tests.compiler.place.fleets import fleet, model

GPUS = {f"n{i}": [("cuda", 10_000)] for i in range(50)}


def test_models_are_spread_and_not_all_sent_to_the_same_few_neurons() -> None:
    whole, source = fleet(GPUS, [model(n, 2000) for n in range(100)])  # type: ignore[arg-type]

    placed, found = place(whole, source)

    assert found == []
    assert Counter(p.model for p in placed.placements) == {f"m{n}": CANDIDATES for n in range(100)}
    first = Counter(p.neuron for p in placed.placements if p.rank == 0)
    assert len(first) > 40 and max(first.values()) <= 3
    assert len({p.neuron for p in placed.placements}) == 50


def test_replicas_max_is_another_number_and_named_neurons_stay() -> None:
    everywhere = frozenset(f"n{i}/cuda-0" for i in range(50))
    models = [
        model(0, 2000, replicas={"max": 3}),
        model(1, 2000, replicas={"max": 20}),
        model(2, 2000, devices=everywhere),
        model(3, 2000, devices=everywhere),
        model(4, 2000, pinned=True, pinned_on=tuple(f"n{i}" for i in range(12))),
    ]
    whole, source = fleet(GPUS, models)  # type: ignore[arg-type]
    assert source.data is not None
    source.data["models"][2]["devices"] = sorted(everywhere)
    source.data["models"][3]["devices"] = ["cuda-0"]

    placed, _ = place(whole, source)

    counts = Counter(p.model for p in placed.placements)
    assert counts == {"m0": 3, "m1": 20, "m2": 50, "m3": CANDIDATES, "m4": 12}


def test_a_large_model_finds_the_few_devices_that_hold_it_among_many_others() -> None:
    neurons = GPUS | {"big": [("cuda", 80_000)], "cpu": [("cpu", 90_000)]}
    whole, source = fleet(neurons, [model(0, 40_000), *(model(n, 2000) for n in range(1, 30))])  # type: ignore[arg-type]

    placed, found = place(whole, source)

    assert found == []
    assert [p.neuron for p in placed.placements if p.model == "m0"] == ["big", "cpu"]


def of_bench(folder: Path, n: int) -> tuple[Fleet, Source]:
    folder.mkdir()
    write_fleet(folder, n)
    fleet_source, _ = parse("fleet.toml", (folder / "fleet.toml").read_text())
    models, _ = parse("models.toml", (folder / "models.toml").read_text())
    declared, _ = validate(fleet_source, models)
    artifacts = {i.value.source: read_artifact(i.value.source, folder) for i in declared.models}
    return resolve(declared, artifacts, fleet_source, models)[0], models


def lines_run(whole: Fleet, models: Source) -> int:
    """How many lines of our code ``place`` runs: a clock that no other process disturbs."""
    count = 0

    def trace(frame, event, _argument):  # type: ignore[no-untyped-def]
        nonlocal count
        if event == "line":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        place(whole, models)
    finally:
        sys.settrace(before)
    return count


def test_twice_the_neurons_and_models_take_about_twice_the_work(tmp_path: Path) -> None:
    small, large = (lines_run(*of_bench(tmp_path / str(n), n)) for n in (100, 200))

    assert large / small < 2.6, "n log n would be 2.3, the square 4"


def test_twice_the_neurons_and_models_are_about_twice_the_bytes(tmp_path: Path) -> None:
    sizes = []
    for n in (100, 200):
        folder = tmp_path / str(n)
        folder.mkdir()
        write_fleet(folder, n)
        outcome = compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build")
        assert outcome.emitted is not None, outcome.text()
        sizes.append(sum(outcome.emitted.files.values()))

    assert sizes[1] / sizes[0] < 2.2


def test_the_bench_measures_a_compile_and_draws_it(tmp_path: Path) -> None:
    write_fleet(tmp_path, 8)
    clock, processor = compile_once(tmp_path)

    assert clock > 0 and processor > 0
    chart = line_chart("t", "n", "s", {"a & b": [(1, 2.0), (2, 3.0)]})
    assert chart.startswith("<svg") and "a &amp; b" in chart and chart.count("<circle") == 2


@pytest.mark.parametrize("n", [1, 3])
def test_the_fleets_of_the_bench_are_right_at_any_size(n: int, tmp_path: Path) -> None:
    write_fleet(tmp_path, n)
    assert compile_files(tmp_path / "fleet.toml", tmp_path / "models.toml", tmp_path / "build").emitted
