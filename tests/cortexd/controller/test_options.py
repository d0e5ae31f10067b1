"""What the live generation says about eviction, pressure, replicas and retention is what the controller does."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from cortexd import models as t
from cortexd.controller import retention
from tests.cortexd.controller.conftest import Bench, until


def kinds(bench: Bench) -> list[tuple[str, str | None]]:
    return bench.rows("SELECT kind, model FROM decision ORDER BY id")


def test_a_model_that_refuses_ends_its_request_at_once_and_asking_again_may_help(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["r"] = "loaded"
    bench.declare(("m", 80, False), ("r", 80, False), m={"on_pressure": "refuse"})
    bench.start()
    until(lambda: bench.rows("SELECT * FROM resident"))

    id = bench.request("m")

    until(lambda: bench.request_state(id) == "refused", 2)
    assert "r would have to leave" in bench.rows("SELECT error FROM load_request")[0][0]
    assert kinds(bench) == [("refuse", "m")] and neuron.count("/models/unload") == 0


def test_a_model_that_queues_waits_until_the_other_left_by_itself(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.models["r"] = "loaded"
    generation = {"eviction": {"strategy": "lru", "defrag_after_cycles": 0, "idle_ttl_s": 4}}
    bench.declare(("m", 80, False), ("r", 80, False), generation=generation, m={"on_pressure": "queue"})
    bench.start()
    until(lambda: bench.rows("SELECT * FROM resident"))

    id = bench.request("m")

    time.sleep(1)
    assert bench.request_state(id) == "queued" and neuron.count("/models/unload") == 0
    until(lambda: bench.request_state(id) == "loaded")
    reason = bench.rows("SELECT reason FROM decision WHERE kind = 'evict'")[0][0]
    assert "r was unused for" in reason and "idle_ttl_s = 4" in reason


def test_replicas_are_kept_without_a_request(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.add_neuron(name)
    bench.declare(("m", 50, False), m={"replicas": {"min": 2, "max": 2}})
    bench.start()

    until(lambda: bench.rows("SELECT neuron, state FROM resident ORDER BY 1") == [("a", "loaded"), ("b", "loaded")])
    bench.neurons["a"].die()

    until(lambda: ("c", "loaded") in bench.rows("SELECT neuron, state FROM resident"))
    assert len(kinds(bench)) == 3


def test_a_saturated_model_gets_a_second_replica_where_room_is_free(bench: Bench) -> None:
    first = bench.add_neuron("a")
    second = bench.add_neuron("b")
    first.models["m"] = "loaded"
    first.busy.add("m")
    bench.declare(("m", 50, False), m={"replicas": {"min": 0, "max": 2}})
    bench.start()

    until(lambda: second.models == {"m": "loaded"})
    assert "saturated" in bench.rows("SELECT reason FROM decision")[0][0]


def evict_rows(bench: Bench, *times: float) -> None:
    row: dict[str, Any] = {"kind": "evict", "model": "x", "neuron": "a", "request_id": None, "reason": "", "inputs": {}}
    with bench.engine.begin() as connection:
        for at in times:
            connection.execute(insert(t.Decision).values(at=at, **row))


def test_a_neuron_is_cleared_after_enough_evictions_counted_over_a_restart_of_the_controller(bench: Bench) -> None:
    neuron = bench.add_neuron("a")
    neuron.started_at = time.monotonic() - 100
    neuron.models |= {"m": "loaded", "n": "loaded", "p": "loaded"}
    evict_rows(bench, time.time() - 500, time.time() - 20, time.time() - 10)  # the first before the neuron started
    generation = {"eviction": {"defrag_after_cycles": 3}}
    bench.declare(("m", 10, False), ("n", 10, False), ("p", 10, True), generation=generation)
    bench.start()
    until(lambda: len(bench.rows("SELECT * FROM resident")) == 3)
    time.sleep(0.5)
    assert neuron.count("/models/unload") == 0
    bench.stop()
    evict_rows(bench, time.time() - 5)

    bench.start()

    until(lambda: neuron.models == {"p": "loaded"})
    assert kinds(bench)[-1] == ("defrag", None)
    assert "3 evictions on a" in bench.rows("SELECT reason FROM decision ORDER BY id DESC")[0][0]
    id = bench.request("m")
    until(lambda: bench.request_state(id) == "loaded")
    time.sleep(0.5)
    assert [kind for kind, _ in kinds(bench)].count("defrag") == 1


def test_rows_older_than_retention_go_in_batches_and_others_stay(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BETWEEN_S", 0.05)
    now, day = time.time(), 86_400
    usage: dict[str, Any] = {
        "dialect": "openai_chat", "streamed": False, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0,
        "duration_s": 0.0, "status": 200, "outcome": "ok", "cold_start": False,
    }  # fmt: skip
    with bench.engine.begin() as connection:
        old = [{"request_id": f"old{i}", "started_at": now - 8 * day, **usage} for i in range(2500)]
        connection.execute(insert(t.Usage), [*old, {"request_id": "new", "started_at": now - 6 * day, **usage}])
        for state, age, open_ in (("failed", 2, None), ("queued", 2, 1), ("failed", 0.5, None)):
            at = now - age * day
            row = {"state": state, "open": open_, "requested_at": at, "changed_at": at}
            connection.execute(insert(t.LoadRequest).values(model="elsewhere", **row))
    evict_rows(bench, now - 50 * day, now - 10)
    bench.add_neuron("a")
    bench.declare(("m", 10, False), generation={"retention": {"usage_days": 7, "decision_days": None}})

    bench.start()

    until(lambda: bench.rows("SELECT request_id FROM usage") == [("new",)])
    until(lambda: len(bench.rows("SELECT id FROM load_request WHERE open IS NULL AND changed_at < ?", now - day)) == 0)
    with bench.engine.connect() as connection:
        kept = select(func.count()).select_from(t.Decision).where(t.Decision.kind == "evict")
        assert connection.scalar(kept) == 2
