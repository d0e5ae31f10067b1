"""What neurons measured becomes rows, and only when it says something new."""

from __future__ import annotations

from cortexd.controller.memory import MemoryRecorder
from cortexd.controller.report import Took
from cortexd.residency.state import Desired, PlacementWish, WantedModel
from cortexd.store.memory_async import Key, Seen
from cortexd.store.observations import Fleet
from tests.cortexd.controller.conftest import Bench, until

SHAPE = ("a" * 64, 4096, 4)


def fleet(need: int = 1000, devices: tuple[str, ...] = ("cuda-0", "cuda-1")) -> Fleet:
    models = {"m": WantedModel("m", need, (PlacementWish("n", devices),))}
    return Fleet(1, {}, Desired("g", models), shapes={"m": SHAPE})


def took(*shape: object, **devices: int) -> tuple[str, str, Took]:
    given = shape or SHAPE
    return ("n", "m", Took(*given, {name.replace("_", "-"): size for name, size in devices.items()}))  # type: ignore[arg-type]


def test_each_device_gets_its_part_of_the_prediction_beside_its_measure() -> None:
    due = MemoryRecorder({}).due(fleet(), [took(cuda_0=450, cuda_1=520)])

    assert due == [(Key("n", "cuda-0", "m", *SHAPE), Seen(500, 450)), (Key("n", "cuda-1", "m", *SHAPE), Seen(500, 520))]


def test_what_hardly_moved_is_not_written_again_and_what_moved_is() -> None:
    recorder = MemoryRecorder({Key("n", "cuda-0", "m", *SHAPE): Seen(500, 1000)})

    assert recorder.due(fleet(), [took(cuda_0=1009)]) == []
    moved = recorder.due(fleet(), [took(cuda_0=1011)])
    assert [seen.measured_bytes for _, seen in moved] == [1011]
    recorder.written(moved)
    assert recorder.due(fleet(), [took(cuda_0=1020)]) == []
    assert [seen.predicted_bytes for _, seen in recorder.due(fleet(need=1200), [took(cuda_0=1020)])] == [600]


def test_a_model_in_another_shape_or_place_than_declared_says_nothing() -> None:
    recorder = MemoryRecorder({})

    assert recorder.due(fleet(), [took("b" * 64, 4096, 4, cuda_0=1)]) == []
    assert recorder.due(fleet(), [took("a" * 64, 2048, 4, cuda_0=1)]) == []
    assert recorder.due(fleet(), [took(cuda_7=1)]) == []
    assert recorder.due(Fleet(), [took(cuda_0=1)]) == []
    assert recorder.due(fleet(), [("elsewhere", *took(cuda_0=1)[1:])]) == []


def test_a_loaded_model_leaves_a_row_that_a_restart_does_not_write_again(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.measured["m"] = 47
    bench.declare(("m", 60, True))
    bench.start()
    query = "SELECT device, model, context, max_sequences, predicted_bytes, measured_bytes FROM memory_observation"

    until(lambda: bench.rows(query))

    assert bench.rows(query) == [("cpu-0", "m", 1, 1, 60, 47)]
    at = bench.rows("SELECT measured_at FROM memory_observation")
    bench.stop()
    bench.start()
    until(lambda: neuron.count("/models") > 10)
    assert bench.rows("SELECT measured_at FROM memory_observation") == at
    neuron.measured["m"] = 90
    until(lambda: bench.rows(query) == [("cpu-0", "m", 1, 1, 60, 90)])
