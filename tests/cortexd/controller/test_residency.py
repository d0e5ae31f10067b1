"""Loads, evictions and refusals, carried out on a stand-in neuron and visible in the tables."""

from __future__ import annotations

import time

from tests.cortexd.controller.conftest import Bench, until


def decisions(bench: Bench) -> list[tuple[str, str]]:
    return bench.rows("SELECT kind, model FROM decision ORDER BY id")


def test_a_load_request_is_acted_on_at_once_and_ends_loaded(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.load_s = 0.3
    bench.declare(("m", 10, False))
    bench.start(poll_interval_s=30)
    until(lambda: bench.healthy("a"))

    id = bench.request("m")

    until(lambda: bench.request_state(id) == "loading", 0.6)
    assert bench.rows("SELECT state FROM resident") in ([], [("loading",)])
    until(lambda: bench.request_state(id) == "loaded", 1.5)
    assert bench.rows("SELECT neuron, model, state FROM resident") == [("a", "m", "loaded")]
    assert bench.rows("SELECT open, neuron, error FROM load_request") == [(None, "a", None)]
    assert decisions(bench) == [("load", "m")]
    assert bench.rows("SELECT request_id, neuron FROM decision") == [(str(id), "a")]


def test_a_request_for_what_is_already_loaded_is_fulfilled(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["m"] = "loaded"
    bench.declare(("m", 10, False))
    bench.start()
    until(lambda: bench.healthy("a"))

    id = bench.request("m")

    until(lambda: bench.request_state(id) == "loaded")
    assert neuron.count("/models/load") == 0


def test_one_load_per_neuron_at_a_time(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.load_s = 0.3
    bench.declare(("m", 10, False), ("n", 10, False), ("o", 10, False))
    bench.start()

    ids = [bench.request(model) for model in ("m", "n", "o")]

    until(lambda: all(bench.request_state(id) == "loaded" for id in ids))
    assert neuron.most_loading == 1


def test_a_failed_load_reaches_the_request_and_is_not_repeated_in_a_loop(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.load_error = "model.onnx does not have the declared sha256"
    bench.declare(("m", 10, False))
    bench.start()

    id = bench.request("m")

    until(lambda: bench.request_state(id) == "failed")
    assert "does not have the declared sha256" in bench.rows("SELECT error FROM load_request")[0][0]
    again = bench.request("m")
    until(lambda: bench.request_state(again) == "failed")
    assert neuron.count("/models/load") == 1


def test_a_pinned_model_that_is_missing_is_loaded_and_a_failure_backs_off(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.load_error = "no"
    bench.declare(("p", 10, True))
    bench.start()
    until(lambda: neuron.count("/models/load") == 1)
    time.sleep(1)
    assert neuron.count("/models/load") == 1

    neuron.load_error = None
    neuron.die()
    until(lambda: not bench.healthy("a"))
    neuron.start()

    until(lambda: bench.rows("SELECT model, state FROM resident") == [("p", "loaded")], 3)


def test_room_is_made_by_unloading_the_idle_one(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models |= {"idle": "loaded", "pinned": "loaded"}
    bench.declare(("m", 50, False), ("idle", 50, False), ("pinned", 50, True))
    bench.start()
    until(lambda: len(bench.rows("SELECT * FROM resident")) == 2)

    id = bench.request("m")

    until(lambda: bench.request_state(id) == "loaded", 8)
    assert neuron.models == {"m": "loaded", "pinned": "loaded"}
    assert decisions(bench) == [("evict", "idle"), ("load", "m")]


def test_a_resident_that_became_busy_since_the_last_poll_is_not_unloaded(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["r"] = "loaded"
    bench.declare(("m", 80, False), ("r", 80, False))
    bench.start(poll_interval_s=30)
    until(lambda: bench.rows("SELECT * FROM resident"))
    time.sleep(3)
    neuron.busy.add("r")

    id = bench.request("m")

    until(lambda: ("evict", "r") in decisions(bench))
    time.sleep(1)
    assert neuron.count("/models/unload") == 0
    assert bench.rows("SELECT state FROM resident") == [("loaded",)]
    assert bench.request_state(id) == "queued"


def test_a_request_that_can_never_be_met_is_refused_with_the_sums(bench: Bench) -> None:
    bench.add_neuron("a")
    bench.declare(("huge", 500, False))
    bench.start()

    id = bench.request("huge")

    until(lambda: bench.request_state(id) == "failed")
    assert "huge needs 500" in bench.rows("SELECT error FROM load_request")[0][0]
    assert decisions(bench) == [("refuse", "huge")]


def test_a_load_that_a_dead_controller_had_begun_is_taken_up_again(bench: Bench) -> None:
    bench.add_neuron("a")
    bench.declare(("m", 10, False))
    id = bench.request("m")
    with bench.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE load_request SET state = 'loading', neuron = 'a'")

    bench.start()

    until(lambda: bench.request_state(id) == "loaded")
