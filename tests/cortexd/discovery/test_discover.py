"""`cortexd discover` against a real neuron and against what is none."""

from __future__ import annotations

import json
import os
import socket
import tomllib
from pathlib import Path
from typing import Any

import onnxruntime
from click.testing import CliRunner, Result

from cortexd import __version__
from cortexd.cli import cli
from tests.cortexd.discovery.conftest import TOKEN
from tests.cortexd.ports import free_ports


def write_fleet(folder: Path, neurons: dict[str, tuple[str, Path | None]]) -> Path:
    text = '[fleet]\nname = "lab"\n[[hosts]]\nname = "here"\naddress = "127.0.0.1"\n'
    for name, (endpoint, token) in neurons.items():
        text += f'[[neurons]]\nname = "{name}"\nhost = "here"\nendpoint = "{endpoint}"\n'
        text += f'token_file = "{token}"\n' if token else ""
        text += '[[neurons.devices]]\nname = "cpu-0"\nkind = "cpu"\nindex = 0\nthreads = 1\nmemory_mb = 1500\n'
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def discover(fleet: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["discover", "--fleet", str(fleet), *more])


def test_a_neuron_is_written_down_as_it_is(tmp_path: Path, neuron: tuple[str, Path]) -> None:
    fleet = write_fleet(tmp_path, {"n1": neuron})

    result = discover(fleet, "--json")

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["changed"] and told["neurons"][0]["health"] == "ok"
    locked = tomllib.loads((tmp_path / "fleet.lock").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (entry,) = locked["neurons"]
    assert entry["devices"][0] == {"name": "cpu-0", "kind": "cpu", "index": 0, "memory_bytes": memory}
    assert entry["onnxruntime"] == onnxruntime.__version__ and entry["package_version"] == __version__
    assert entry["providers"] == sorted(onnxruntime.get_available_providers())
    assert TOKEN not in result.output and TOKEN not in (tmp_path / "fleet.lock").read_text()


def test_the_same_answers_change_nothing_in_the_file(tmp_path: Path, neuron: tuple[str, Path]) -> None:
    fleet = write_fleet(tmp_path, {"n1": neuron})
    first = discover(fleet)
    before = (tmp_path / "fleet.lock").read_bytes()
    again = discover(fleet)

    assert "written: 1 of 1" in first.stdout and "unchanged: 1 of 1" in again.stdout
    assert (tmp_path / "fleet.lock").read_bytes() == before


def test_who_does_not_answer_keeps_the_old_entry_and_is_named(tmp_path: Path, neuron: tuple[str, Path]) -> None:
    old = '[[neurons]]\nname = "gone"\ndriver = "550"\n\n[[neurons]]\nname = "not-declared"\n'
    (tmp_path / "fleet.lock").write_text(f"version = 1\n{old}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoints: dict[str, tuple[str, Path | None]] = {
            "gone": (f"http://127.0.0.1:{free_ports(1)[0]}", None),
            "silent": (f"http://127.0.0.1:{silent.getsockname()[1]}", None),
            "n1": neuron,
            "other": neuron,
            "locked-out": (neuron[0], None),
            "no-token": (neuron[0], tmp_path / "missing"),
        }
        result = discover(write_fleet(tmp_path, endpoints), "--timeout", "2")

    assert result.exit_code == 1
    locked = tomllib.loads((tmp_path / "fleet.lock").read_text())
    assert [n["name"] for n in locked["neurons"]] == ["gone", "n1"]
    assert locked["neurons"][0]["driver"] == "550"
    lines = result.stderr.splitlines()
    told = {name: next(line for line in lines if line.startswith(f"{name} ")) for name in endpoints if name != "n1"}
    assert "its old entry stays" in told["gone"] and "it has no entry" in told["silent"]
    assert "no answer within 2 s" in told["silent"]
    assert "says that it is `n1`" in told["other"]
    assert "wants another token" in told["locked-out"]
    assert "No such file" in told["no-token"]


def test_what_was_measured_stays(tmp_path: Path, neuron: tuple[str, Path]) -> None:
    entry = f'[[measured]]\nmanifest_sha256 = "{"a" * 64}"\ncontext = 1\nmax_sequences = 1\nkind = "cpu"\nbytes = 5\n'
    (tmp_path / "fleet.lock").write_text(f"version = 1\n{entry}")

    assert discover(write_fleet(tmp_path, {"n1": neuron})).exit_code == 0
    (kept,) = tomllib.loads((tmp_path / "fleet.lock").read_text())["measured"]
    assert kept["bytes"] == 5 and kept["devices"] == 1


def test_a_broken_fleet_or_lock_is_explained_and_left_alone(tmp_path: Path, neuron: tuple[str, Path]) -> None:
    fleet = write_fleet(tmp_path, {"n1": neuron})
    (tmp_path / "fleet.lock").write_text("version = 2\n")
    assert "`version` must be at most 1" in discover(fleet).output
    assert (tmp_path / "fleet.lock").read_text() == "version = 2\n"
    fleet.write_text("[fleet\n")
    result = discover(fleet)
    assert result.exit_code == 1 and "CX102" in result.output
    assert "no such file" in discover(tmp_path / "none.toml").output


def answers(**discovery: Any) -> tuple[Any, Any, Any]:
    return {"neuron": "n", "devices": [], **discovery}, {"package_version": "1"}, {"status": "ok"}


def test_gpus_that_nobody_declared_are_found_and_one_without_memory_is_a_note() -> None:
    from cortexd.discovery.answers import read_answers

    gpu = {"index": 0, "name": "cuda-0", "product": "P", "uuid": "U0", "memory_bytes": 80 << 30}
    declared = {"index": 0, "name": "big", "kind": "cuda", "memory_bytes": 80 << 30, "product": "P", "uuid": "U0"}
    unknown = {"index": 5, "name": "cuda-5", "kind": "cuda", "memory_bytes": None}
    found = read_answers("n", *answers(devices=[declared, unknown], gpus=[gpu, gpu | {"index": 1, "uuid": "U1"}]))

    assert [(d.name, d.index, d.uuid) for d in found.neuron.devices] == [("big", 0, "U0"), ("cuda-1", 1, "U1")]
    assert found.notes == ("cuda-5: its memory is unknown: the driver does not list it",)
