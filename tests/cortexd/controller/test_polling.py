"""Polling: what neurons report reaches the tables, whatever their neighbours do."""

from __future__ import annotations

import logging
import sqlite3
import time

import pytest

from tests.cortexd.controller.conftest import Bench, until


def test_a_neuron_is_seen_with_its_devices_residents_and_version(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["m"] = "loaded"
    bench.declare(("m", 10, False))
    bench.start()

    until(lambda: bench.rows("SELECT version FROM neuron_observation WHERE healthy") == [("9.9",)])

    assert bench.rows("SELECT device, kind, memory_total_bytes FROM device_observation") == [("cpu-0", "cpu", 100)]
    assert bench.rows("SELECT neuron, model, state, in_flight FROM resident") == [("a", "m", "loaded", 0)]
    time.sleep(0.7)
    assert neuron.count("/version") == neuron.count("/discovery") == 1


def test_a_hung_neuron_delays_nobody(bench: Bench) -> None:
    bench.add_neuron("hung").fault = "hung"
    other = bench.add_neuron("good")
    bench.declare()
    bench.start(poll_timeout_s=2)

    until(lambda: bench.healthy("good"), 1.5)
    before = other.count("/health")
    time.sleep(1)

    assert other.count("/health") - before >= 3
    until(
        lambda: bench.rows("SELECT error FROM neuron_observation WHERE neuron = 'hung'") == [("no answer within 2 s",)]
    )


def test_three_misses_make_a_neuron_unhealthy_and_one_answer_makes_it_healthy(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    bench.declare()
    bench.start()
    until(lambda: bench.healthy("a"))

    neuron.die()
    until(lambda: bench.rows("SELECT misses FROM neuron_observation") == [(1,)])
    assert bench.healthy("a")
    until(lambda: not bench.healthy("a"))
    assert bench.rows("SELECT misses FROM neuron_observation") == [(3,)]

    neuron.start()
    until(lambda: bench.healthy("a"), 2)
    until(lambda: neuron.count("/version") == 2)


def test_a_neuron_that_was_healthy_under_the_last_controller_is_not_believed_to_be_so(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["m"] = "loaded"
    bench.declare(("m", 10, False))
    bench.start()
    until(lambda: bench.healthy("a"))
    bench.stop()
    neuron.die()

    bench.start()

    until(lambda: not bench.healthy("a"), 1)
    neuron.start()
    neuron.models["m"] = "loaded"
    until(lambda: bench.healthy("a"), 2)
    (since,) = bench.rows("SELECT since FROM resident")[0]
    assert time.time() - since < 2


def test_a_neuron_that_answers_nonsense_is_a_miss_that_says_so(bench: Bench) -> None:
    bench.add_neuron("a").fault = "garbage"
    bench.add_neuron("b").fault = "refuses"
    bench.declare()
    bench.start()

    errors = dict.fromkeys(("a", "b"))
    until(lambda: len(bench.rows("SELECT neuron, error FROM neuron_observation")) == 2)
    errors.update(bench.rows("SELECT neuron, error FROM neuron_observation"))

    assert errors == {"a": "/health did not answer JSON", "b": "/health: status 500: broken"}


def test_the_token_comes_from_its_file_and_is_in_no_row(bench: Bench) -> None:
    bench.add_neuron("a", token="s3cret-token")
    bench.declare(token_ref="neuron.token")
    bench.start()
    until(lambda: "neuron.token" in str(bench.rows("SELECT error FROM neuron_observation")))

    (bench.folder / "neuron.token").write_text("s3cret-token\n")

    until(lambda: bench.healthy("a"))
    assert b"s3cret-token" not in b"".join(p.read_bytes() for p in bench.folder.glob("state.db*"))


def test_what_does_not_change_is_not_written_again(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["m"] = "loaded"
    bench.declare(("m", 10, False))
    bench.start()
    until(lambda: bench.rows("SELECT version FROM neuron_observation WHERE version = '9.9'"))
    time.sleep(0.3)
    with sqlite3.connect(bench.folder / "state.db") as connection:
        before = connection.execute("PRAGMA data_version").fetchone()
        polls = neuron.count("/health")
        time.sleep(1.5)

        assert neuron.count("/health") > polls + 3
        assert connection.execute("PRAGMA data_version").fetchone() == before


def test_a_model_that_left_and_a_neuron_that_is_no_longer_declared_leave_the_tables(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["m"] = "loaded"
    bench.declare(("m", 10, False))
    bench.start()
    until(lambda: bench.rows("SELECT * FROM resident"))

    neuron.models.clear()
    until(lambda: not bench.rows("SELECT * FROM resident"))

    del bench.neurons["a"]
    bench.declare(("m", 10, False), version=2)
    until(lambda: not bench.rows("SELECT * FROM neuron_observation"))
    assert bench.rows("SELECT * FROM device_observation") == []
    neuron.die()


def test_a_database_that_does_not_answer_ends_nothing_and_is_logged_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    neuron = bench.add_neuron("a")
    bench.declare()
    bench.start()
    until(lambda: bench.healthy("a"))

    caplog.set_level(logging.INFO, "cortexd.controller")
    with sqlite3.connect(bench.folder / "state.db") as connection:
        connection.execute("ALTER TABLE live RENAME TO live_away")
    polls = neuron.count("/health")
    until(lambda: "does not answer" in caplog.text)
    time.sleep(1)
    assert caplog.text.count("does not answer") == 1
    assert neuron.count("/health") > polls + 2
    with sqlite3.connect(bench.folder / "state.db") as connection:
        connection.execute("ALTER TABLE live_away RENAME TO live")

    until(lambda: "answers again" in caplog.text)
