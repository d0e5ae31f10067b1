"""A real gateway process over a real SQLite database, with stand-ins for neurons."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, update

from cortexd import models as t
from cortexd.store.connect import connect
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron
from tests.cortexd.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
MODEL = "org/tiny"
SECRET = "sk-test-secret"


@dataclass
class Gateway:
    state: Path
    base: str
    metrics: str
    process: subprocess.Popen[bytes] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.state / 'state.db'}"

    @property
    def log(self) -> str:
        return (self.state / "gateway.log").read_text()

    def start(self) -> None:
        with (self.state / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cortexd", "gateway", "--state-dir", str(self.state)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            try:
                if httpx.get(self.base + "/health", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(self.log)

    def stop(self, sig: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(sig)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    def execute(self, *statements: Any) -> None:
        """Change the database as the controller would, and give the gateway time to see it."""
        engine = connect(self.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)
        engine.dispose()
        time.sleep(0.5)

    def rows(self, where: str = "1", *values: object) -> list[dict[str, Any]]:
        with sqlite3.connect(f"file:{self.state / 'state.db'}?mode=ro", uri=True) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM usage WHERE {where}", values)]

    def row(self, answer: httpx.Response, wait_s: float = 0.0) -> dict[str, Any]:
        deadline = time.monotonic() + wait_s
        while True:
            found = self.rows("request_id = ?", answer.headers["x-request-id"])
            if found or time.monotonic() >= deadline:
                assert len(found) == 1
                return found[0]
            time.sleep(0.05)

    def post(self, body: dict[str, Any] | bytes, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        kind = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.base + path, **kind, timeout=30, **more)

    def metric(self, name: str, **labels: str) -> float:
        total = 0.0
        for line in httpx.get(self.metrics + "/metrics").text.splitlines():
            if line.startswith(name + "{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


def chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hé\n"}], **more}


def fill(url: str, neurons: dict[str, str], *, loaded: bool = True, pinned: bool = True) -> None:
    """A live generation with one chat model on every neuron, an embedding model, an alias and a key."""
    engine = connect(url)
    t.Base.metadata.create_all(engine)
    g = "g" * 64
    common = {
        "generation": g, "artifact": "x", "manifest_sha256": "0" * 64, "max_sequences": 4, "weight_bytes": 1,
        "kv_bytes": 1, "need_bytes": 2, "residency_priority": 100, "settings": {},
    }  # fmt: skip
    with engine.begin() as c:
        c.execute(insert(t.Generation).values(hash=g, fleet="test", compiler_version="0", settings={}))
        c.execute(insert(t.Live).values(id=1, generation=g, version=1, applied_at=1700000000.0))
        c.execute(insert(t.Model).values(id=MODEL, task="chat", context=4096, pinned=pinned, **common))
        c.execute(insert(t.Model).values(id="tiny-embed", task="embed", context=512, pinned=False, **common))
        c.execute(insert(t.Alias).values(generation=g, name="default", model=MODEL))
        c.execute(
            insert(t.Key).values(
                generation=g,
                key_id="k1",
                account="acme",
                settings={},
                secret_hash=hashlib.sha256(SECRET.encode()).hexdigest(),
            )
        )
        for rank, (name, endpoint) in enumerate(neurons.items()):
            c.execute(insert(t.Neuron).values(generation=g, name=name, host="h", endpoint=endpoint, token_ref=None))
            c.execute(
                insert(t.NeuronObservation).values(
                    neuron=name, healthy=True, misses=0, polled_at=1.0, error=None, version="0", detail={}
                )
            )
            for model in (MODEL, "tiny-embed"):
                c.execute(
                    insert(t.Placement).values(
                        generation=g,
                        model=model,
                        neuron=name,
                        devices=["cpu-0"],
                        rank=rank,
                        pinned=pinned,
                        reason="test",
                    )
                )
            if loaded:
                c.execute(resident(name))
    engine.dispose()


def resident(neuron: str, state: str = "loaded") -> Any:
    return insert(t.Resident).values(
        neuron=neuron, model=MODEL, state=state, in_flight=0, queue_depth=0, since=1.0, error=None
    )


def unload() -> Any:
    return delete(t.Resident)


def healthy(neuron: str, value: bool) -> Any:
    return update(t.NeuronObservation).where(t.NeuronObservation.neuron == neuron).values(healthy=value)


Make = Callable[..., Gateway]


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Make]:
    with gateways(tmp_path) as make:
        yield make


@contextmanager
def gateways(tmp_path: Path) -> Iterator[Make]:
    made: list[Gateway] = []

    def make(neurons: dict[str, str], *, loaded: bool = True, start: bool = True, **settings: Any) -> Gateway:
        api, metrics = free_ports(2)
        gateway = {
            "listen": f"127.0.0.1:{api}", "metrics_listen": f"127.0.0.1:{metrics}", "workers": 1,
            "keepalive_interval_s": 0.2,
        } | settings  # fmt: skip
        lines = [f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in gateway.items()]
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "control.toml").write_text("[gateway]\n" + "\n".join(lines) + "\n")
        made.append(Gateway(tmp_path, f"http://127.0.0.1:{api}", f"http://127.0.0.1:{metrics}", config=gateway))
        fill(made[-1].url, neurons, loaded=loaded)
        if start:
            made[-1].start()
        return made[-1]

    try:
        yield make
    finally:
        for gateway in made:
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.stop(signal.SIGINT)
    for gateway in made:
        assert gateway.process is None or "Traceback" not in gateway.log, gateway.log


@pytest.fixture
def neuron() -> Iterator[FakeNeuron]:
    with FakeNeuron() as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, FakeNeuron]]:
    """One gateway and one neuron for the tests of a module that break nothing."""
    with FakeNeuron() as started, gateways(tmp_path_factory.mktemp("shared")) as make:
        yield make({"n1": started.url}, body_limit_mb=1), started


@pytest.fixture
def usual(shared: tuple[Gateway, FakeNeuron]) -> tuple[Gateway, FakeNeuron]:
    """The shared pair, with a neuron that has seen nothing and behaves."""
    gateway, started = shared
    started.behaviour = Behaviour()
    started.seen.clear()
    return gateway, started
