"""``cortexd model pull`` against a web server and a stand-in for the hub, and what ``compile`` makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler.pipeline import compile_files
from cortexd.artifacts.store import Store
from tests.cortexd.artifacts.make import make_artifact
from tests.cortexd.artifacts.server import running, serving
from tests.cortexd.pull.hub import Hub

ROOT = Path(__file__).resolve().parents[3]
COMMIT, LATER = "1" * 40, "2" * 40
SIZES = {"model.onnx": 2 << 20, "tokenizer.json": 3000}
FLEET = """
[fleet]
name = "lab"
[[hosts]]
name = "here"
address = "127.0.0.1"
[[neurons]]
name = "local"
host = "here"
endpoint = "http://127.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
"""


@dataclass
class Place:
    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "var" / "artifacts")

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "cortexd", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), "HF_HUB_ETAG_TIMEOUT": "3"}
            | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def lock(self) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = tomllib.loads((self.folder / "models.lock").read_text())["artifacts"]
        return entries


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return Place(tmp_path / "work")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    server = Hub(tmp_path / "hub")
    with running(server):
        yield server


def test_a_folder_of_a_web_server_is_pulled_locked_and_compiled_without_network(place: Place, tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "origin", SIZES)
    with serving(tmp_path / "origin") as server:
        server.cut["model.onnx"] = [1 << 20]
        code, out, err = place.run("model", "pull", server.url)
        assert code == 0, err
        url = server.url
    assert place.lock() == [{"source": url, "manifest_sha256": digest}]
    assert f"is in var/artifacts/artifacts/{digest}; models.lock names it" in out

    (place.folder / "fleet.toml").write_text(FLEET)
    (place.folder / "models.toml").write_text(f'[[models]]\nid = "m"\nsource = "{url}"\ntask = "chat"\n')
    code, out, err = place.run("compile")
    assert code == 0, err
    first = (place.folder / "build" / "latest").read_text()
    neuron = tomllib.loads((place.folder / "build" / first.strip() / "hosts/here/neurons/local.toml").read_text())
    assert neuron["models"][0]["artifact"] == f"sha256:{digest}"
    assert neuron["artifact_store"] == "../../artifacts"
    assert "artifact_url" not in neuron  # the store is on this host

    # pulled already: no network needed, and the same bytes are compiled
    assert place.run("model", "pull", url)[0] == 0
    assert place.run("compile", "--check")[0] == 0


def test_a_source_that_changed_is_told_and_taken_only_on_request(place: Place, tmp_path: Path) -> None:
    old = make_artifact(tmp_path / "origin", SIZES)
    with serving(tmp_path / "origin") as server:
        assert place.run("model", "pull", server.url)[0] == 0
        new = make_artifact(tmp_path / "origin", SIZES, seed=2)
        elsewhere = Place(tmp_path / "elsewhere")
        elsewhere.folder.mkdir()
        (elsewhere.folder / "models.lock").write_bytes((place.folder / "models.lock").read_bytes())

        code, _, err = elsewhere.run("model", "pull", server.url)
        assert code == 1
        assert f"has sha256 {new}, wanted is {old} (models.lock names that; --update takes what is there now)" in err

        assert elsewhere.run("model", "pull", server.url, "--update")[0] == 0
    assert [e["manifest_sha256"] for e in elsewhere.lock()] == [new]
    assert elsewhere.store.complete(new) and not elsewhere.store.complete(old)


def test_an_artifact_on_the_hub_is_pulled_at_its_commit(place: Place, hub: Hub) -> None:
    digest = make_artifact(hub.put("org/tiny", "main", COMMIT), SIZES)
    code, out, err = place.run("model", "pull", "hf:org/tiny@main", "--json", HF_ENDPOINT=hub.url)

    assert code == 0, err
    told = json.loads(out)
    assert told["manifest_sha256"] == digest
    assert place.lock() == [{"source": "hf:org/tiny@main", "manifest_sha256": digest, "resolved": COMMIT}]
    assert (Path(place.folder / told["folder"]) / "model.onnx").stat().st_size == SIZES["model.onnx"]
    assert hub.sent["org/tiny/resolve/" + COMMIT + "/model.onnx"] == SIZES["model.onnx"]

    # the branch moves on; the lock does not
    make_artifact(hub.put("org/tiny", "main", LATER), SIZES, seed=2)
    other = Place(place.folder.parent / "other")
    other.folder.mkdir()
    (other.folder / "models.lock").write_bytes((place.folder / "models.lock").read_bytes())
    assert other.run("model", "pull", "hf:org/tiny@main", HF_ENDPOINT=hub.url)[0] == 0
    assert other.store.complete(digest)


def test_a_private_repository_takes_a_token_which_is_told_nowhere(place: Place, hub: Hub) -> None:
    make_artifact(hub.put("org/hidden", "main", COMMIT), SIZES)
    hub.private.add("org/hidden")

    code, _, err = place.run("model", "pull", "hf:org/hidden", HF_ENDPOINT=hub.url)
    assert code == 1
    assert "no such repository, or a private one (then put a token into HF_TOKEN)" in err
    code, out, err = place.run("model", "pull", "hf:org/hidden", HF_ENDPOINT=hub.url, HF_TOKEN=hub.token)
    assert code == 0, err
    assert hub.token not in out + err + (place.folder / "models.lock").read_text()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:org/none@main", "no such repository"),
        ("hf:org/tiny@v9", "the repository has no such revision"),
        ("hf:org/gated@main", "is gated: accept its terms on the hub"),
        ("hf:org/odd@main", "holds neither an artifact (manifest.json) nor a checkpoint"),
        ("hf:org/gguf@main", "has no safetensors"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(place: Place, hub: Hub, source: str, said: str) -> None:
    make_artifact(hub.put("org/tiny", "main", COMMIT), SIZES)
    hub.put("org/gated", "main", COMMIT)
    hub.gated.add("org/gated")
    (hub.put("org/odd", "main", COMMIT) / "README.md").write_text("x")
    (hub.put("org/gguf", "main", COMMIT) / "config.json").write_text("{}")

    code, _, err = place.run("model", "pull", source, HF_ENDPOINT=hub.url)

    assert code == 1
    assert said in err
    assert not (place.folder / "models.lock").exists()


def test_a_hub_that_does_not_answer_is_a_sentence(place: Place) -> None:
    code, _, err = place.run("model", "pull", "hf:org/x@main", HF_ENDPOINT="http://127.0.0.1:9")

    assert code == 1
    assert "the hub does not answer" in err


def test_a_checkpoint_needs_the_extra_export(place: Place, hub: Hub) -> None:
    folder = hub.put("org/checkpoint", "main", COMMIT)
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    (place.folder / "blocked").mkdir()
    (place.folder / "blocked" / "torch.py").write_text(
        "raise ModuleNotFoundError('No module named torch', name='torch')"
    )
    path = f"{place.folder / 'blocked'}:{ROOT}"

    code, _, err = place.run("model", "pull", "hf:org/checkpoint@main", HF_ENDPOINT=hub.url, PYTHONPATH=path)

    assert code == 1
    assert "exporting it needs torch; install it with: pip install 'cortexd[export]'" in err


@pytest.mark.export
def test_a_checkpoint_of_the_hub_becomes_an_artifact_that_compiles(place: Place, hub: Hub) -> None:
    pytest.importorskip("torch", reason="needs the extra `export`")
    pytest.importorskip("optimum.exporters.onnx", reason="needs the extra `export`")
    from neuron.artifacts.export import tiny

    folder = hub.put("org/checkpoint", "main", COMMIT)
    tiny.make_chat(folder, tiny.build_tokenizer(vocabulary=400), steps=1, hidden=32, layers=2, window=24)
    (folder / "model.gguf").write_bytes(b"another format of the same weights")
    (folder / "README.md").write_text("x")
    source = "hf:org/checkpoint@main"
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(place.folder / "hf")}
    code, out, err = place.run("model", "pull", source, "--json", **environment)
    assert code == 0, err
    digest = json.loads(out)["manifest_sha256"]
    assert place.lock() == [{"source": source, "manifest_sha256": digest, "resolved": COMMIT}]
    assert not any(path.endswith((".gguf", ".md")) for path in hub.sent)
    assert [p.name for p in place.store.partial.iterdir()] == []

    asked = len(hub.requests)
    assert place.run("model", "pull", source, **environment)[0] == 0
    assert len(hub.requests) == asked

    (place.folder / "fleet.toml").write_text(FLEET)
    models = f'[[models]]\nid = "m"\nsource = "{source}"\ntask = "chat"\nprecision = "fp32"\ncontext = 1024\n'
    (place.folder / "models.toml").write_text(models)
    code, out, err = place.run("compile")
    assert code == 0, err


def test_a_folder_is_copied_in_and_needs_no_lock(place: Place, tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "origin", SIZES)

    assert place.run("model", "pull", f"path:{tmp_path / 'origin'}")[0] == 0
    assert place.store.complete(digest)
    assert not (place.folder / "models.lock").exists()


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("builtin:tiny-chat", 1, "ships with cortexd"),
        ("ftp://x/y", 2, "must be builtin:NAME"),
        ("https://u:hunter2@x/y", 2, "must not hold a user or password"),
        ("path:nowhere", 1, "is this an artifact's folder?"),
        ("http://127.0.0.1:9/x", 1, "refused"),
    ],
)
def test_sources_that_cannot_be_pulled(place: Place, source: str, status: int, said: str) -> None:
    code, _, err = place.run("model", "pull", source)

    assert code == status
    assert said in " ".join(err.split())
    assert "hunter2" not in err


def test_user_and_password_come_from_netrc(place: Place, tmp_path: Path) -> None:
    make_artifact(tmp_path / "origin", SIZES)
    netrc = place.folder / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    with serving(tmp_path / "origin") as server:
        assert place.run("model", "pull", server.url)[0] == 0
        assert {h.get("Authorization") for _, h in server.requests} == {"Basic bWU6aHVudGVyMg=="}
    assert "hunter2" not in (place.folder / "models.lock").read_text()


def test_two_precisions_of_one_source_are_two_artifacts(place: Place, tmp_path: Path) -> None:
    """As the lock says which is which, models with each compile to their own."""
    digests = {p: make_artifact(tmp_path / p, SIZES, seed=n) for n, p in enumerate(("fp32", "int8"))}
    lock = ""
    for precision, digest in digests.items():
        data = (tmp_path / precision / "manifest.json").read_text().replace('"fp32"', f'"{precision}"')
        (tmp_path / precision / "manifest.json").write_text(data)
        digest = place.store.add(tmp_path / precision)
        digests[precision] = digest
        lock += f'[[artifacts]]\nsource = "hf:o/m@v1"\nprecision = "{precision}"\nmanifest_sha256 = "{digest}"\n'
    (place.folder / "models.lock").write_text(lock)
    (place.folder / "fleet.toml").write_text(FLEET)
    (place.folder / "models.toml").write_text(
        "".join(f'[[models]]\nid = "{p}"\nsource = "hf:o/m@v1"\ntask = "chat"\nprecision = "{p}"\n' for p in digests)
    )
    outcome = compile_files(
        place.folder / "fleet.toml", place.folder / "models.toml", place.folder / "build", {}, None, place.store.root
    )

    assert outcome.emitted is not None, outcome.text()
    neuron = tomllib.loads((outcome.emitted.folder / "hosts/here/neurons/local.toml").read_text())
    assert {m["id"]: m["artifact"] for m in neuron["models"]} == {p: f"sha256:{d}" for p, d in digests.items()}
