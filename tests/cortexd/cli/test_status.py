"""``cortexd status`` over a real database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from cortexd.cli import cli
from cortexd.models import (
    ApplyHistory,
    Base,
    DeviceObservation,
    Generation,
    Host,
    Live,
    LoadRequest,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
)
from cortexd.store.connect import connect
from cortexd.store.overview import forget_observed

HASH = "a1b2c3" + "0" * 58


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "control.toml").touch()
    engine = connect(f"sqlite:///{tmp_path / 'state.db'}")
    Base.metadata.create_all(engine)
    now = time.time()
    with Session(engine) as session, session.begin():
        session.add(Generation(hash=HASH, fleet="home", compiler_version="0", settings={}))
        session.flush()
        session.add(Live(id=1, generation=HASH, version=3, applied_at=now))
        session.add(Host(generation=HASH, name="h", address="127.0.0.1"))
        for name in ("alpha", "beta", "gamma"):
            session.add(
                Neuron(generation=HASH, name=name, host="h", endpoint=f"http://{name}:1", token_ref="secret.token")
            )
        for name, healthy, age, error in (("alpha", True, 3, None), ("beta", False, 2, "no answer within 5 s")):
            session.add(
                NeuronObservation(
                    neuron=name, healthy=healthy, misses=0, polled_at=now - age, error=error, version="9.9", detail={}
                )
            )
        session.add(
            DeviceObservation(
                neuron="alpha", device="cpu-0", kind="cpu", memory_total_bytes=4 << 30, memory_used_bytes=1 << 30,
                utilization_pct=None,
            )
        )  # fmt: skip
        session.add(
            Resident(
                neuron="alpha", model="tiny", state="loaded", in_flight=2, queue_depth=1, since=now - 60, error=None
            )
        )
        session.add(
            Placement(generation=HASH, model="tiny", neuron="alpha", devices=["cpu-0"], rank=0, pinned=True, reason="")
        )
        session.add(
            LoadRequest(
                model="big", state="queued", open=1, neuron=None, requested_at=now - 7, changed_at=now, error=None
            )
        )
    engine.dispose()
    return tmp_path


def as_json(state_dir: Path) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["status", "--state-dir", str(state_dir), "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_json_has_everything_and_no_secret(state_dir: Path) -> None:
    seen = as_json(state_dir)

    assert (seen["fleet"], seen["version"], seen["in_flight"], seen["queue_depth"]) == ("home", 3, 2, 1)
    assert [(n["name"], n["state"]) for n in seen["neurons"]] == [
        ("alpha", "healthy"),
        ("beta", "unhealthy"),
        ("gamma", "unknown"),
    ]
    assert 2 < seen["neurons"][0]["last_poll_age_s"] < 20
    assert seen["devices"][0]["memory_total_bytes"] == 4 << 30
    assert seen["residents"][0]["pinned"] is True
    assert (seen["loads"][0]["model"], seen["loads"][0]["state"]) == ("big", "queued")
    assert "secret" not in json.dumps(seen)


def test_the_tables_are_for_people(state_dir: Path) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["status", "--state-dir", str(state_dir)])

    assert result.exit_code == 0, result.output
    assert "home: generation a1b2c3000000 (version 3)" in result.output
    for text in ("alpha/cpu-0", "1,024 MiB", "4,096 MiB", "no answer within 5 s", "2 requests in flight", "big"):
        assert text in result.output
    assert "the controller has not reported lately" in result.output  # gamma was never polled


def add(state_dir: Path, *rows: Any) -> None:
    engine = connect(f"sqlite:///{state_dir / 'state.db'}")
    with Session(engine) as session, session.begin():
        session.add_all(rows)
    engine.dispose()


def test_an_apply_under_way_shows_until_its_hosts_are_ready(state_dir: Path) -> None:
    row = {"version": 3, "applied_at": 1.0, "previous": None, "generation": HASH, "finished_at": None, "error": None}
    add(state_dir, ApplyHistory(kind="apply", state="applying", **row))

    assert as_json(state_dir)["apply"] == {"kind": "apply", "state": "applying", "finished_at": None, "error": None}
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["status", "--state-dir", str(state_dir)])
    assert "apply of version 3 is applying" in result.output


def test_replicas_show_beside_what_is_declared(state_dir: Path) -> None:
    row: dict[str, Any] = {
        "generation": HASH, "task": "chat", "artifact": "x", "manifest_sha256": "0" * 64, "context": 1,
        "max_sequences": 1, "weight_bytes": 1, "kv_bytes": 1, "need_bytes": 2, "pinned": False,
        "residency_priority": 100,
    }  # fmt: skip
    add(
        state_dir,
        Model(id="tiny", settings={"replicas": {"min": 2, "max": 3}}, **row),
        Model(id="cold", settings={}, **row),
    )

    seen = as_json(state_dir)

    assert seen["apply"] is None and seen["models"] == 2
    assert seen["replicas"] == [{"model": "tiny", "loaded": 1, "min": 2, "max": 3, "neurons": ["alpha"]}]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["status", "--state-dir", str(state_dir)])
    assert "REPLICAS OF" in result.output


def test_a_controller_that_is_gone_shows(state_dir: Path) -> None:
    engine = connect(f"sqlite:///{state_dir / 'state.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE neuron_observation SET polled_at = polled_at - 100")
    engine.dispose()

    assert [n["state"] for n in as_json(state_dir)["neurons"]] == ["stale", "stale", "unknown"]


def test_a_database_url_serves_as_well_as_the_state_directory(state_dir: Path) -> None:
    result = CliRunner().invoke(cli, ["status", "--database", f"sqlite:///{state_dir / 'state.db'}", "--json"])

    assert json.loads(result.output)["fleet"] == "home"


def test_a_fleet_that_starts_anew_has_not_been_seen_yet(state_dir: Path) -> None:
    engine = connect(f"sqlite:///{state_dir / 'state.db'}")
    forget_observed(engine)
    engine.dispose()

    seen = as_json(state_dir)

    assert {n["state"] for n in seen["neurons"]} == {"unknown"}
    assert (seen["devices"], seen["residents"], len(seen["loads"])) == ([], [], 1)


def test_before_the_first_apply_it_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    engine = connect(url)
    Base.metadata.create_all(engine)
    engine.dispose()

    result = CliRunner().invoke(cli, ["status", "--database", url])

    assert result.exit_code == 0 and "no generation is live" in result.output


def test_watch_prints_a_line_per_second_until_ctrl_c(state_dir: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cortexd", "status", "--state-dir", str(state_dir), "--json", "--watch"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)

    assert [line["fleet"] for line in lines] == ["home", "home"]
    assert process.returncode == 0 and errors == ""
