"""`cortexd fit`: prediction beside measurement, and the way into fleet.lock."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from cortexd.cli import cli
from cortexd.models import Base, Device, DeviceObservation, Generation, Host, Live, MemoryObservation, Model, Neuron
from cortexd.store.connect import connect

MIB = 1 << 20
A, B = "a" * 64, "b" * 64
GENERATION = "0" * 64


@pytest.fixture
def url(tmp_path: Path) -> str:
    """`chat` (artifact A) on two GPUs of `n` and one of `m`; `old` is not served any more."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    engine = connect(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Generation(hash=GENERATION, fleet="t", compiler_version="0", settings={}))
        session.flush()
        session.add(Host(generation=GENERATION, name="h", address="127.0.0.1"))
        for name in ("n", "m"):
            session.add(Neuron(generation=GENERATION, name=name, host="h", endpoint="http://127.0.0.1:1"))
        for neuron, device in (("n", "cuda-0"), ("n", "cuda-1"), ("m", "cuda-0")):
            index = int(device[-1])
            session.add(
                Device(
                    generation=GENERATION, neuron=neuron, name=device, kind="cuda", index=index, memory_bytes=9000 * MIB
                )
            )
        session.add(
            Model(
                generation=GENERATION, id="chat", task="chat", artifact="x", manifest_sha256=A, context=4096,
                max_sequences=4, weight_bytes=1, kv_bytes=1, need_bytes=1, pinned=False, residency_priority=1,
                settings={},
            )
        )  # fmt: skip
        session.add(Live(id=1, generation=GENERATION, version=1, applied_at=0.0))
        session.add(
            DeviceObservation(neuron="gone", device="cpu-0", kind="cpu", memory_total_bytes=1, memory_used_bytes=1)
        )
        for neuron, device, model, sha, predicted, measured in (
            ("n", "cuda-0", "chat", A, 1000, 800),
            ("m", "cuda-0", "chat", A, 1000, 1250),
            ("gone", "cpu-0", "old", B, 100, 300),
            ("lost", "cuda-0", "old", B, 100, 400),
        ):
            session.add(
                MemoryObservation(
                    neuron=neuron, device=device, model=model, manifest_sha256=sha, context=4096, max_sequences=4,
                    predicted_bytes=predicted * MIB, measured_bytes=measured * MIB, measured_at=5.0,
                )
            )  # fmt: skip
    engine.dispose()
    return url


def fit(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["fit", "--database", url, *arguments])


def test_the_report_has_the_worst_first_and_sums_for_each_device(url: str) -> None:
    result = fit(url, "--report")

    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[1] == "chat m/cuda-0 4,096 4 1,000 MiB 1,250 MiB 1.25"
    assert lines[2] == "chat n/cuda-0 4,096 4 1,000 MiB 800 MiB 0.80"
    assert "m/cuda-0 1 1,000 MiB 1,250 MiB 1.25 9,000 MiB" in lines
    assert "2 more of models or shapes that are not served now: --json has them." in lines


def test_json_has_everything_and_says_what_is_current(url: str) -> None:
    answer = json.loads(fit(url, "--json").stdout)

    assert [(m["neuron"], m["kind"], m["ratio"], m["current"]) for m in answer["models"]] == [
        ("lost", None, 4.0, False),
        ("gone", "cpu", 3.0, False),
        ("m", "cuda", 1.25, True),
        ("n", "cuda", 0.8, True),
    ]
    assert [(d["neuron"], d["ratio"]) for d in answer["devices"]] == [("m", 1.25), ("n", 0.8)]


def test_the_lock_gets_the_most_of_each_kind_and_keeps_the_rest(url: str, tmp_path: Path) -> None:
    lock = tmp_path / "fleet.lock"
    kept = f'[[measured]]\nmanifest_sha256 = "{B}"\ncontext = 9\nmax_sequences = 1\nkind = "cuda"\nbytes = 7\n'
    outdone = (
        f'[[measured]]\nmanifest_sha256 = "{A}"\ncontext = 4096\nmax_sequences = 4\nkind = "cuda"\nbytes = 9999999999\n'
    )
    lock.write_text(f'version = 1\n[[neurons]]\nname = "n"\n{kept}{outdone}')

    first, again = fit(url, "--write", str(lock)), fit(url, "--write", str(lock))

    assert "written: 2 measured shapes" in first.output and "unchanged: 2 measured shapes" in again.output
    written = tomllib.loads(lock.read_text())
    assert written["neurons"] == [{"name": "n", "providers": []}]
    assert [(m["manifest_sha256"][0], m["context"], m["kind"], m["bytes"]) for m in written["measured"]] == [
        ("a", 4096, "cuda", 1250 * MIB),
        ("b", 9, "cuda", 7),
        ("b", 4096, "cpu", 300 * MIB),
    ]


def test_the_file_to_write_is_fleet_lock_unless_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    answer = json.loads(fit(url, "--json", "--write").stdout)

    assert answer["lock"] == {"file": "fleet.lock", "shapes": 2, "changed": True}
    assert (tmp_path / "fleet.lock").is_file()


def test_a_lock_that_is_none_is_left_alone(url: str, tmp_path: Path) -> None:
    (tmp_path / "fleet.lock").write_text("version = true\n")

    result = fit(url, "--write", str(tmp_path / "fleet.lock"))

    assert result.exit_code == 1 and "CX20" in result.output and "Traceback" not in result.output
    assert (tmp_path / "fleet.lock").read_text() == "version = true\n"


def test_without_a_measurement_the_report_says_when_there_will_be_one(url: str, tmp_path: Path) -> None:
    engine = connect(url)
    with Session(engine) as session, session.begin():
        session.query(MemoryObservation).delete()
    engine.dispose()

    assert "when a neuron loads a model" in fit(url).stdout
    assert "no such database" in fit(f"sqlite:///{tmp_path}/none.db").output
