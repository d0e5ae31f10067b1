"""A real neuron whose model lies on another host: it fetches the artifact, tells how far it is, and answers."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cortexd.artifacts.store import Store
from neuron.settings import SettingsError, load_settings
from tests.cortexd.artifacts.server import FolderServer, serving
from tests.cortexd.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "neuron/artifacts/builtin/tiny-chat"
DIGEST = hashlib.sha256((TINY / "manifest.json").read_bytes()).hexdigest()
QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def write(state: Path, port: int, url: str, *, models: tuple[str, ...] = ("tiny",), pinned: bool = False) -> Path:
    """STATE/etc is a link to the generation, as apply makes it."""
    folder = state / "generations" / "g" / "neurons"
    folder.mkdir(parents=True)
    (state / "etc").symlink_to("generations/g")
    text = f'name = "n"\nlisten = "127.0.0.1:{port}"\nartifact_url = "{url}"\nartifact_store = "../../artifacts"\n'
    text += '[[devices]]\nname = "cpu-0"\nkind = "cpu"\nthreads = 1\nmemory_mb = 3000\n'
    for model in models:
        text += (
            f'[[models]]\nid = "{model}"\nartifact = "sha256:{DIGEST}"\nmanifest_sha256 = "{DIGEST}"\n'
            f'devices = ["cpu-0"]\ncontext = 256\nmax_sequences = 1\npinned = {str(pinned).lower()}\n'
        )
    (folder / "n.toml").write_text(text)
    return state / "etc" / "neurons" / "n.toml"


@contextmanager
def neuron(config: Path, port: int) -> Iterator[str]:
    with (config.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "neuron", "serve", "--config", str(config)], cwd=ROOT, stdout=log, stderr=log
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: httpx.get(base + "/health", timeout=1).status_code == 200)
        yield base
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (config.parent / "log").read_text()
    assert "Traceback" not in (config.parent / "log").read_text()


def wait_for(true: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if true():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def model(base: str, name: str = "tiny") -> dict[str, Any]:
    found: dict[str, Any] = next(m for m in httpx.get(base + "/health").json()["models"] if m["id"] == name)
    return found


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[FolderServer]:
    """What the gateway serves: /<digest>/<file>."""
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / DIGEST).symlink_to(TINY)
    with serving(tmp_path / "origin") as server:
        yield server


def test_it_fetches_what_it_lacks_and_answers(origin: FolderServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url)
    origin.cut[f"{DIGEST}/model.onnx"] = [100_000]  # and goes on where that broke off
    with neuron(config, port) as base:
        loaded = httpx.post(base + "/models/load", json={"model_id": "tiny"}, timeout=60)
        assert loaded.status_code == 200, loaded.text
        answer = httpx.post(base + "/v1/chat/completions", json=QUESTION, timeout=60).json()

    assert answer["usage"]["completion_tokens"] == 4
    assert Store(tmp_path / "state/artifacts").complete(DIGEST)
    assert origin.sent[f"{DIGEST}/model.onnx"] == (TINY / "model.onnx").stat().st_size
    assert not (tmp_path / "state/generations/artifacts").exists()


def test_two_models_of_one_artifact_fetch_it_once_and_a_restart_fetches_nothing(
    origin: FolderServer, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url, models=("one", "two"), pinned=True)
    with neuron(config, port) as base:
        wait_for(lambda: all(model(base, m)["state"] == "loaded" for m in ("one", "two")))
    sent = dict(origin.sent)
    with neuron(config, port) as base:
        wait_for(lambda: all(model(base, m)["state"] == "loaded" for m in ("one", "two")))

    assert sent == origin.sent
    assert sent[f"{DIGEST}/model.onnx"] == (TINY / "model.onnx").stat().st_size


def test_health_tells_how_far_it_is_and_never_waits(origin: FolderServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url, pinned=True)
    size = sum(p.stat().st_size for p in TINY.iterdir() if p.name != "manifest.json")
    half = (TINY / "model.onnx").stat().st_size // 2
    closed = threading.Event()

    class Closing(list[int]):
        def pop(self, index: int = -1) -> int:  # type: ignore[override]
            closed.set()
            return super().pop(index)

    origin.cut[f"{DIGEST}/model.onnx"] = Closing([half])
    # the first answer breaks off, and the next ones are refused: the fetch stands still half way
    origin.status = lambda path: (
        503 if path.endswith("model.onnx") and origin.sent.get(f"{DIGEST}/model.onnx") and closed.is_set() else None
    )
    with neuron(config, port) as base:
        wait_for(lambda: (model(base)["transfer"] or {}).get("bytes_done", 0) >= half)
        seen = model(base)
        assert seen["state"] == "loading"
        assert seen["transfer"]["bytes_total"] == size
        assert half <= seen["transfer"]["bytes_done"] < size
        closed.clear()
        wait_for(lambda: model(base)["state"] == "loaded")
        assert model(base)["transfer"] is None


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [(404, 422, "artifact_unusable", "there is no such file"), (503, 503, "artifact_unavailable", "status 503")],
)
def test_a_failure_is_told_with_its_reason(
    origin: FolderServer, tmp_path: Path, status: int, code: int, kind: str, said: str
) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url)
    origin.status = lambda path: status
    with neuron(config, port) as base:
        answer = httpx.post(base + "/models/load", json={"model_id": "tiny"}, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (code, kind)
        assert said in answer.json()["error"]["message"]
        assert said in model(base)["error"]
        assert model(base)["state"] == "failed"

        origin.status = lambda path: None
        assert httpx.post(base + "/models/load", json={"model_id": "tiny"}, timeout=60).status_code == 200


def test_corrupt_bytes_never_reach_a_device(origin: FolderServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url)
    data = bytearray((TINY / "model.onnx").read_bytes())
    data[1000] ^= 1
    origin.content[f"{DIGEST}/model.onnx"] = bytes(data)
    with neuron(config, port) as base:
        answer = httpx.post(base + "/models/load", json={"model_id": "tiny"}, timeout=60)

    assert answer.status_code == 422
    assert "it was deleted" in answer.json()["error"]["message"]
    assert list((tmp_path / "state/artifacts/artifacts").iterdir()) == []
    good = hashlib.sha256((TINY / "model.onnx").read_bytes()).hexdigest()
    assert not (tmp_path / "state/artifacts/partial" / good).exists()


def test_a_pinned_model_waits_for_a_gateway_that_is_still_on_its_way_up(tmp_path: Path) -> None:
    port, origin_port = free_ports(2)
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / DIGEST).symlink_to(TINY)
    config = write(tmp_path / "state", port, f"http://127.0.0.1:{origin_port}", pinned=True)
    with neuron(config, port) as base:
        time.sleep(1)
        assert model(base)["state"] == "loading"
        with serving(tmp_path / "origin", origin_port):
            wait_for(lambda: model(base)["state"] == "loaded", 60)


def test_a_neuron_that_stops_does_not_wait_for_a_transfer(origin: FolderServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = write(tmp_path / "state", port, origin.url, pinned=True)
    origin.gate = threading.Event()
    try:
        with neuron(config, port) as base:
            wait_for(lambda: origin.requests)
            assert model(base)["state"] == "loading"
            began = time.monotonic()
        assert time.monotonic() - began < 15
    finally:
        origin.gate.set()


def test_a_model_in_the_store_needs_one(tmp_path: Path) -> None:
    config = write(tmp_path / "state", 1, "http://127.0.0.1:9")
    config.write_text(config.read_text().replace('artifact_store = "../../artifacts"\n', ""))

    with pytest.raises(SettingsError, match="artifact_store names none"):
        load_settings(config)
