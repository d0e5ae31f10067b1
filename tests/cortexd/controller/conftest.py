"""A controller on a real SQLite database, in its own thread, against stand-in neurons."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cortexd.controller.loop import Controller
from cortexd.models import Base, Device, Generation, Host, Live, Model, Neuron, Placement
from cortexd.settings import ControllerSettings
from cortexd.store.connect import connect, connect_async
from cortexd.store.load_requests import ensure_open, state
from tests.cortexd.controller.standin import StandIn


class Bench:
    """The database, its neurons, and a controller that may be started and stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'state.db'}"
        self.engine = connect(self.url)
        Base.metadata.create_all(self.engine)
        self.neurons: dict[str, StandIn] = {}
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread: threading.Thread | None = None

    def add_neuron(self, name: str, **options: Any) -> StandIn:
        self.neurons[name] = StandIn(**options)
        return self.neurons[name]

    def declare(
        self,
        *models: tuple[str, int, bool],
        version: int = 1,
        token_ref: str | None = None,
        generation: dict[str, Any] | None = None,
        **settings: dict[str, Any],
    ) -> None:
        """One generation: each model (id, bytes, pinned) may live on every neuron. ``settings`` by model id."""
        from sqlalchemy.orm import Session

        hash = f"{version:064d}"
        with Session(self.engine) as session, session.begin():
            session.add(Generation(hash=hash, fleet="test", compiler_version="0", settings=generation or {}))
            session.flush()
            session.add(Host(generation=hash, name="h", address="127.0.0.1"))
            for rank, (name, neuron) in enumerate(self.neurons.items()):
                session.add(Neuron(generation=hash, name=name, host="h", endpoint=neuron.endpoint, token_ref=token_ref))
                session.add(
                    Device(generation=hash, neuron=name, name="cpu-0", kind="cpu", index=0, memory_bytes=neuron.memory)
                )
                for id, _, pinned in models:
                    session.add(
                        Placement(
                            generation=hash,
                            model=id,
                            neuron=name,
                            devices=["cpu-0"],
                            rank=rank,
                            pinned=pinned,
                            reason="",
                        )
                    )
            for id, need, pinned in models:
                session.add(
                    Model(
                        generation=hash, id=id, task="chat", artifact="x", manifest_sha256="0" * 64, context=1,
                        max_sequences=1, weight_bytes=need, kv_bytes=0, need_bytes=need, pinned=pinned,
                        residency_priority=100, settings=settings.get(id, {}),
                    )
                )  # fmt: skip
            session.merge(Live(id=1, generation=hash, version=version, applied_at=0.0))

    def start(self, poll_interval_s: float = 0.2, poll_timeout_s: float = 0.5) -> None:
        started = threading.Event()
        settings = ControllerSettings(poll_interval_s=poll_interval_s, poll_timeout_s=poll_timeout_s)

        async def main() -> None:
            stop = asyncio.Event()
            self._stop = (asyncio.get_running_loop(), stop)
            started.set()
            engine = connect_async(self.url)
            async with httpx.AsyncClient(timeout=None, trust_env=False) as http:
                await Controller(engine, http, settings, self.folder).run(stop)
            await engine.dispose()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()))
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        if self._stop and self._thread:
            loop, stop = self._stop
            loop.call_soon_threadsafe(stop.set)
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._stop = self._thread = None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "state.db") as connection:
            return connection.execute(query, values).fetchall()

    def healthy(self, name: str) -> bool:
        return self.rows("SELECT healthy FROM neuron_observation WHERE neuron = ?", name) == [(1,)]

    def request(self, model: str) -> int:
        return ensure_open(self.engine, model, time.time())

    def request_state(self, id: int) -> str:
        found = state(self.engine, id)
        assert found is not None
        return found.state


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    for neuron in made.neurons.values():
        neuron.die()
    made.engine.dispose()
