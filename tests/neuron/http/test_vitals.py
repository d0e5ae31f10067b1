"""What a neuron tells the service manager, and how it ends when a device fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cortexd.manager import Manager
from tests.cortexd.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]

# Two devices with sessions that need no model; that of cpu-1 has a fault that poisons its device.
PROGRAM = """
import functools, logging, pathlib, sys
import neuron.http.server as server
from neuron.session.base import SessionError
from neuron.session.fake import FakeSession
from neuron.settings import load_settings

def session(spec):
    opened = FakeSession(spec, next_token=lambda tokens: 300 + len(tokens), latency_s=0.02, max_chunk=64)
    if spec.index == 1:
        opened.fault = SessionError("CUDA error 700", poisons=True)
    return opened

logging.basicConfig(level=logging.INFO)
server.create_app = functools.partial(server.create_app, session_factory=session)
server.run(load_settings(pathlib.Path(sys.argv[1])))
"""


class Running:
    def __init__(self, folder: Path, program: list[str], more: str = "") -> None:
        (port,) = free_ports(1)
        self.manager = Manager(folder)
        self.url = f"http://127.0.0.1:{port}"
        config, self._log = folder / "neuron.toml", folder / "log"
        devices = "".join(
            f'[[devices]]\nname = "cpu-{n}"\nkind = "cpu"\nindex = {n}\nthreads = 1\nmemory_mb = 1500\n' for n in (0, 1)
        )
        models = "".join(
            f'[[models]]\nid = "m{n}"\nartifact = "builtin:tiny-chat"\ndevices = ["cpu-{n}"]\n'
            f"context = 512\npinned = true\n"
            for n in (0, 1)
        )
        config.write_text(f'name = "n1"\nlisten = "127.0.0.1:{port}"\ndrain_s = 10\n{devices}{models}{more}')
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, str(config)],
                cwd=ROOT, env=os.environ | self.manager.environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.manager.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    neuron = Running(tmp_path, ["-c", PROGRAM])
    yield neuron
    neuron.stop()


def ask(url: str, model: str, tokens: int, stream: bool = False) -> dict[str, object]:
    return {
        "url": f"{url}/v1/chat/completions",
        "timeout": 30,
        "json": {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": tokens,
            "stream": stream,
        },
    }


def ask_in_vain(url: str, model: str) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.post(**ask(url, model, 5))


def test_ready_comes_after_the_loads_and_food_while_the_devices_are_idle(tmp_path: Path) -> None:
    neuron = Running(tmp_path, ["-m", "neuron", "serve", "--config"])
    try:
        heard = list(neuron.manager.wait_for("READY=1"))
        assert httpx.get(neuron.url + "/health").json()["activation"]["completed"] == ["m0", "m1"]
        neuron.manager.wait_for("STATUS=serving 2 models")
        fed = neuron.manager.listen(1.5).count("WATCHDOG=1")
        neuron.process.terminate()
        status = neuron.process.wait(15)
        last = [line for line in neuron.manager.listen() if line != "WATCHDOG=1"][-2:]
    finally:
        neuron.stop()

    assert heard.index("STATUS=loading m0") < heard.index("STATUS=loading m1") < heard.index("READY=1")
    assert "EXTEND_TIMEOUT_USEC=30000000" in heard
    assert fed >= 1
    assert last == ["STOPPING=1", "STATUS=letting requests end"]
    assert status == 0


def test_a_device_that_failed_ends_the_process_once_the_others_are_done(running: Running) -> None:
    running.manager.wait_for("READY=1")
    parts: list[str] = []
    with httpx.stream("POST", **ask(running.url, "m0", 100, stream=True)) as stream:  # about two seconds
        lines = stream.iter_lines()
        parts.append(next(lines))
        broken = httpx.post(**ask(running.url, "m1", 5))
        running.manager.wait_for("STATUS=cpu-1 failed; ending")
        refused = httpx.post(**ask(running.url, "m0", 5))
        parts += lines
    status = running.process.wait(15)

    assert broken.status_code == 500
    assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
    assert "cpu-1 failed" in refused.json()["error"]["message"]
    assert [p for p in parts if p][-1] == "data: [DONE]"
    finish = [json.loads(p[6:])["choices"][0]["finish_reason"] for p in parts if p.startswith('data: {"id')]
    assert "length" in finish
    assert status == 77
    assert "Reason: a device failed" in running.log


def test_a_worker_that_dies_takes_the_process_with_it_instead_of_being_started_for_ever(running: Running) -> None:
    running.manager.wait_for("READY=1")
    (worker,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    os.kill(int(worker), 9)

    assert running.process.wait(15) == 1
    assert "the process that holds the devices ended" in running.log


def test_an_application_that_cannot_start_ends_the_process_too(tmp_path: Path) -> None:
    program = PROGRAM.replace("server.run(", "server.create_app = lambda *_, **__: [][0]\nserver.run(")
    neuron = Running(tmp_path, ["-c", program])
    try:
        status = neuron.process.wait(15)
    finally:
        neuron.stop()

    assert status == 3
    assert "IndexError" in neuron.log and "READY=1" not in neuron.manager.heard


def test_a_device_that_hangs_stops_the_food(tmp_path: Path) -> None:
    # a step that takes for ever, and a patience of a second instead of thirty
    program = PROGRAM.replace("latency_s=0.02", "latency_s=(60 if spec.index == 1 else 0.02)")
    program = program.replace("if spec.index == 1:\n", "if False:\n")
    program = program.replace("logging.basic", "import neuron.http.vitals as v; v.STALL_S = 1.0\nlogging.basic")
    program = program.replace("logging.basic", "import neuron.device.thread as t; t._IDLE_BEAT_S = 0.2\nlogging.basic")
    neuron = Running(tmp_path, ["-c", program])
    try:
        neuron.manager.wait_for("READY=1")
        neuron.manager.wait_for("WATCHDOG=1")
        asking = threading.Thread(target=ask_in_vain, args=(neuron.url, "m1"))
        asking.start()
        neuron.manager.listen(2.5)
        neuron.manager.heard.clear()
        heard = list(neuron.manager.listen(1.5))
        assert httpx.get(neuron.url + "/health").status_code == 200  # the event loop turns, the device does not
    finally:
        neuron.stop()
    asking.join()

    assert "WATCHDOG=1" not in heard
