"""Two files to a generation: what is written, and that it is always the same."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from compiler.artifacts import read_artifact
from compiler.diagnostics import as_json
from compiler.emitters.render import toml_value
from compiler.pipeline import Outcome, compile_files
from compiler.schema.fleet import ControllerSection, DatabaseSection, GatewaySection
from cortexd.resources import resource
from cortexd.settings import ControllerSettings, DatabaseSettings, GatewaySettings, load_settings
from neuron.settings import load_settings as load_neuron
from tests.compiler.artifacts import make_all

FLEET = """
[fleet]
name = "lab"
[gateway]
host = "b"
workers = 3
metrics_listen = "10.0.0.2:31314"
[[hosts]]
name = "a"
address = "10.0.0.1"
ssh = "admin@10.0.0.1"
[[hosts]]
name = "b"
address = "127.0.0.1"
[[neurons]]
name = "gpu"
host = "a"
endpoint = "http://10.0.0.1:13131/"
token_file = "/etc/cortexd/to\\"ken"
[[neurons.devices]]
name = "cuda-1"
kind = "cuda"
index = 1
memory_mb = 24000
[[neurons]]
name = "local"
host = "b"
endpoint = "http://127.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
[[accounts]]
name = "team"
[[keys]]
id = "laptop"
account = "team"
secret_sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
"""
# both neurons, so that nothing is doubted
LOCK = """\
version = 1
[[neurons]]
name = "gpu"
devices = [{ name = "cuda-1", kind = "cuda", index = 1, memory_bytes = 25769803776 }]
[[neurons]]
name = "local"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, memory_bytes = 68719476736 }]
"""
MODELS = """
[[models]]
id = "org/chat"
source = "path:artifacts/chat"
task = "chat"
pinned = true
sampling = { temperature = 0.5, top_k = 20 }
limit = { input = 9000, output = 500 }
tool_parser = "hermes"
reasoning_parser = "think"
[[models]]
id = "embed"
source = "path:artifacts/embed"
task = "embed"
idle_ttl_s = 90
devices = ["local/cpu-0"]
[aliases]
fast = "org/chat"
"""


def write(folder: Path, fleet: str = FLEET, models: str = MODELS) -> None:
    (folder / "fleet.toml").write_text(fleet)
    (folder / "models.toml").write_text(models)
    (folder / "fleet.lock").write_text(LOCK)


def compiled(folder: Path, out: str = "build") -> Outcome:
    return compile_files(folder / "fleet.toml", folder / "models.toml", folder / out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_all(tmp_path)
    write(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_same_input_gives_the_same_bytes_in_another_process_too(folder: Path) -> None:
    first = compiled(folder, "one").emitted
    assert first is not None
    code = (
        "import sys; from pathlib import Path; from compiler.pipeline import compile_files; f = Path(sys.argv[1]); "
        "compile_files(f / 'fleet.toml', f / 'models.toml', f / 'two')"
    )
    env = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parents[2]), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, env=env)

    assert content(folder / "one") == content(folder / "two")
    assert len(first.generation) == 64


def test_compiling_again_changes_nothing_and_repairs_what_was_changed(folder: Path) -> None:
    first = compiled(folder).emitted
    assert first is not None
    before = content(folder / "build")
    (first.folder / "hosts" / "b" / "control.toml").write_text("tampered")

    assert compiled(folder).emitted == first
    assert content(folder / "build") == before


def test_order_and_comments_of_the_input_do_not_matter_but_values_do(folder: Path) -> None:
    def name(fleet: str, models: str) -> str:
        write(folder, fleet, models)
        emitted = compiled(folder).emitted
        assert emitted is not None
        return emitted.generation

    tables = MODELS.split("[[models]]")
    embed, aliases = tables[2].split("[aliases]")
    swapped = f"# moved\n[aliases]{aliases}[[models]]{embed}[[models]]{tables[1]}"
    first = name(FLEET, MODELS)

    assert name(FLEET, swapped) == first
    assert name(FLEET.replace("workers = 3", "workers = 4"), MODELS) != first
    assert name(FLEET, MODELS.replace("top_k = 20", "top_k = 21")) != first


def test_another_artifact_is_another_generation(folder: Path) -> None:
    first = compiled(folder).emitted
    path = folder / "artifacts" / "chat" / "manifest.json"
    path.write_text(path.read_text().replace('"optimum": "2.1.0"', '"optimum": "2.1.1"'))
    second = compiled(folder).emitted

    assert first is not None and second is not None and first.generation != second.generation


def test_each_host_gets_its_own_files_and_the_named_one_the_gateway(folder: Path) -> None:
    emitted = compiled(folder).emitted
    assert emitted is not None

    assert [name for name in sorted(emitted.files) if "/systemd/" not in name] == [
        "fleet.db",
        "hosts/a/host.json",
        "hosts/a/neurons/gpu.toml",
        "hosts/a/sysusers.d/cortexd.conf",
        "hosts/a/tmpfiles.d/cortexd.conf",
        "hosts/b/control.toml",
        "hosts/b/host.json",
        "hosts/b/neurons/local.toml",
        "hosts/b/sysusers.d/cortexd.conf",
        "hosts/b/tmpfiles.d/cortexd.conf",
        "monitoring/alerts.yml",
        "monitoring/grafana-cortexd.json",
        "monitoring/prometheus.yml",
    ]
    settings = load_settings(emitted.folder / "hosts/b/control.toml")
    assert (settings.gateway.workers, settings.database.url) == (3, "sqlite:///state.db")
    gpu = tomllib.loads((emitted.folder / "hosts/a/neurons/gpu.toml").read_text())
    assert gpu["listen"] == "10.0.0.1:13131" and gpu["token_file"] == '/etc/cortexd/to"ken'
    assert gpu["devices"] == [{"name": "cuda-1", "kind": "cuda", "index": 1, "memory_mb": 24000}]
    assert gpu["artifact_url"] == "http://10.0.0.2:31314/artifacts"
    (chat,) = gpu["models"]
    manifest = read_artifact("path:artifacts/chat", folder)
    assert chat == {
        "id": "org/chat",
        "task": "chat",
        "artifact": f"sha256:{manifest.manifest_sha256}",
        "manifest_sha256": manifest.manifest_sha256,
        "devices": ["cuda-1"],
        "context": 131072,
        "max_sequences": 4,
        "pinned": True,
        "tool_parser": "hermes",
        "reasoning_parser": "think",
        "sampling": {"temperature": 0.5, "top_k": 20},
        "limit": {"input": 9000, "output": 500},
    }
    assert (folder / "build" / "latest").read_text().strip() == emitted.generation


def test_each_neuron_reads_its_file_as_it_was_meant(folder: Path) -> None:
    emitted = compiled(folder).emitted
    assert emitted is not None

    gpu = load_neuron(emitted.folder / "hosts/a/neurons/gpu.toml")
    local = load_neuron(emitted.folder / "hosts/b/neurons/local.toml")

    assert (gpu.name, gpu.listen, gpu.body_limit_mb) == ("gpu", "10.0.0.1:13131", 32)
    assert (gpu.models[0].pinned, gpu.models[0].sampling.top_k, gpu.models[0].limit.output) == (True, 20, 500)
    assert [(m.id, m.tool_parser, m.reasoning_parser) for m in (*gpu.models, local.models[0])] == [
        ("org/chat", "hermes", "think"),
        ("embed", "hermes", None),
    ]
    assert [(d.name, d.threads, d.memory_mb) for d in local.devices] == [("cpu-0", 2, 6144)]
    assert [(m.id, m.pinned) for m in local.models] == [("embed", False), ("org/chat", False)]


def test_fleet_db_is_open_to_sql(folder: Path) -> None:
    emitted = compiled(folder).emitted
    assert emitted is not None
    with sqlite3.connect(emitted.folder / "fleet.db") as db:
        pinned = db.execute("SELECT model, neuron, rank, pinned FROM placement ORDER BY 1, 3").fetchall()
        (ttl,) = db.execute("SELECT settings ->> 'idle_ttl_s' FROM model WHERE id = 'embed'").fetchone()
        names = {row[0] for row in db.execute("SELECT generation FROM host UNION SELECT hash FROM generation")}
        need, weights, kv = db.execute(
            "SELECT need_bytes, weight_bytes, kv_bytes FROM model WHERE id LIKE '%chat'"
        ).fetchone()
    db.close()

    assert pinned == [("embed", "local", 0, 0), ("org/chat", "gpu", 0, 1), ("org/chat", "local", 1, 0)]
    assert ttl == 90
    assert names == {emitted.generation}
    assert need == weights + kv + (256 << 20)


def test_the_examples_compile_without_a_finding(tmp_path: Path) -> None:
    outcome = compile_files(resource("fleet.toml.example"), resource("models.toml.example"), tmp_path)

    assert outcome.text() == ""
    assert outcome.emitted is not None


def test_the_defaults_of_fleet_toml_are_those_of_control_toml() -> None:
    assert GatewaySection().model_dump(exclude={"host"}) == GatewaySettings().model_dump()
    assert DatabaseSection().model_dump() == DatabaseSettings().model_dump()
    assert ControllerSection().model_dump() == ControllerSettings().model_dump()


def test_findings_for_tools_have_place_and_path(folder: Path) -> None:
    write(folder, FLEET.replace("workers", "wrokers"))
    outcome = compiled(folder)

    (found,) = as_json(outcome.diagnostics)
    assert json.loads(json.dumps(found)) == {
        "code": "CX201",
        "severity": "error",
        "message": "unknown key `wrokers` in [gateway]",
        "file": str(folder / "fleet.toml"),
        "line": 6,
        "column": 1,
        "length": 7,
        "path": ["gateway", "wrokers"],
        "hint": "did you mean `workers`?",
    }
    assert outcome.emitted is None


def test_a_missing_file_and_bytes_that_are_no_text_are_findings(folder: Path) -> None:
    (folder / "fleet.toml").unlink()
    (folder / "models.toml").write_bytes(b"# \xff")

    text = compiled(folder).text()

    assert "fleet.toml:1:1: error[CX101]: no such file" in text
    assert "models.toml:1:3: error[CX101]: not UTF-8: here is a byte 0xff" in text


def test_a_failure_while_writing_leaves_no_half_generation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compiler.emit.write_database", full)
    with pytest.raises(OSError, match="No space"):
        compiled(folder)

    assert list((folder / "build").iterdir()) == []


@pytest.mark.parametrize("value", ["", 'q"\\\n\t\x00\x7fé🎉', True, 0, -5, 0.1, 1e22, 1e-7, [], ["a", "b"], [1, 2]])
def test_values_survive_the_way_through_toml(value: object) -> None:
    assert tomllib.loads(f"v = {toml_value(value)}") == {"v": value}
