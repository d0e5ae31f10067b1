"""A whole fleet on loopback: compile, apply, up, as a user runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def cortexd(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cortexd", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )


def write_fleet(folder: Path, examples: Path = ROOT) -> tuple[int, int, int]:
    """The two examples with ports of their own; returns those of API, metrics and neuron."""
    api, metrics, neuron = free_ports(3)
    fleet = (examples / "fleet.toml.example").read_text()
    for old, new in ((31313, api), (31314, metrics), (13131, neuron)):
        fleet = re.sub(rf":{old}\b", f":{new}", fleet)
    (folder / "fleet.toml").write_text(fleet)
    (folder / "models.toml").write_text((examples / "models.toml.example").read_text())
    return api, metrics, neuron


@dataclass
class Fleet:
    folder: Path
    base: str
    metrics: str
    neuron: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def database(self) -> Path:
        return self.folder / "var" / "state.db"

    def children(self) -> dict[str, int]:
        """Command line -> pid of every living descendant."""
        parents: dict[int, int] = {}
        commands: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    commands[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
        found, queue = {}, [self.process.pid]
        while queue:
            parent = queue.pop()
            for pid, above in parents.items():
                if above == parent:
                    queue.append(pid)
                    found[f"{commands[pid]}#{pid}"] = pid
        return found

    def wait_ready(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(self.base + "/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError("not ready:\n" + self.log.read_text())


def start_fleet(folder: Path, env: dict[str, str] | None = None, examples: Path = ROOT) -> Fleet:
    api, metrics, neuron = write_fleet(folder, examples)
    for command in (("compile",), ("apply", "--state-dir", "var")):
        done = cortexd(*command, cwd=folder, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    log = folder / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cortexd", "up", "--state-dir", "var"], cwd=folder, env=env, stdout=out, stderr=out
        )
    at = "http://127.0.0.1:{}".format
    fleet = Fleet(folder, at(api), at(metrics), at(neuron), process, log)
    try:
        fleet.wait_ready()
    except BaseException:
        process.kill()
        raise
    return fleet


def stop_fleet(fleet: Fleet, timeout_s: float = 30) -> None:
    if fleet.process.poll() is None:
        fleet.process.send_signal(signal.SIGINT)
        try:
            fleet.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            fleet.process.kill()
            raise AssertionError("up did not stop:\n" + fleet.log.read_text()) from None


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    started = start_fleet(tmp_path_factory.mktemp("fleet"))
    yield started
    stop_fleet(started)


def path_environment(first: Path) -> dict[str, str]:
    """The environment with ``first`` before everything else that Python imports from."""
    return os.environ | {"PYTHONPATH": str(first), "PYTHONSAFEPATH": "1"}
