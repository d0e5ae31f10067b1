"""Two hosts: the model lies on the gateway's, the neuron runs on the other, and nobody copies anything by hand."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from cortexd.artifacts.store import Store
from tests.e2e.conftest import ROOT, cortexd, free_ports

FLEET = """
[fleet]
name = "lab"
[gateway]
listen = "127.0.0.1:{api}"
metrics_listen = "127.0.0.1:{metrics}"
workers = 1
[controller]
poll_interval_s = 0.3
[[hosts]]
name = "front"
address = "127.0.0.1"
[[hosts]]
name = "box"
address = "127.0.0.1"
[[neurons]]
name = "gpu"
host = "box"
endpoint = "http://127.0.0.1:{neuron}"
devices = [{{ name = "cpu-0", kind = "cpu", index = 0, threads = 1, memory_mb = 3000 }}]
"""
MODELS = """
[[models]]
id = "tiny"
source = "path:model"
task = "chat"
context = 256
max_sequences = 1
pinned = {pinned}
"""


def wait_for(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_a_cold_request_brings_the_model_to_the_other_host(tmp_path: Path) -> None:
    api, metrics, neuron = free_ports(3)
    front, box = tmp_path / "front", tmp_path / "box"
    (tmp_path / "fleet.toml").write_text(FLEET.format(api=api, metrics=metrics, neuron=neuron))
    (tmp_path / "models.toml").write_text(MODELS.format(pinned="false"))
    shutil.copytree(ROOT / "neuron/artifacts/builtin/tiny-chat", tmp_path / "model")
    digest = hashlib.sha256((tmp_path / "model/manifest.json").read_bytes()).hexdigest()
    for command in (
        ("compile",),
        ("apply", "--state-dir", str(box), "--host", "box"),
        ("apply", "--state-dir", str(front)),
    ):
        done = cortexd(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    programs = {
        "neuron": ["neuron", "serve", "--config", str(box / "etc/neurons/gpu.toml")],
        "up": ["cortexd", "up", "--state-dir", str(front)],
    }
    running = {}
    for name, arguments in programs.items():
        with (tmp_path / f"{name}.log").open("wb") as log:
            running[name] = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for(running["neuron"], tmp_path / "neuron.log", f"http://127.0.0.1:{neuron}/health")
        wait_for(running["up"], tmp_path / "up.log", f"http://127.0.0.1:{api}/ready")
        answer = httpx.post(
            f"http://127.0.0.1:{api}/v1/chat/completions",
            json={"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4},
            timeout=90,
        )
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait(30)

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert Store(box / "artifacts").complete(digest)
    assert not (front / "artifacts").exists()
    assert "Traceback" not in (tmp_path / "neuron.log").read_text() + (tmp_path / "up.log").read_text()
