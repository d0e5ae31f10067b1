"""The rounds: read what is wanted, decide, start actions, write what changed; several times a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd.controller.carry_out import Hands
from cortexd.controller.memory import MemoryRecorder
from cortexd.controller.neuron_client import NeuronClient
from cortexd.controller.picture import Picture
from cortexd.controller.recorder import Recorder
from cortexd.controller.retention import keep_deleting
from cortexd.controller.watch import Watcher
from cortexd.residency import decide, may_evict_by_itself
from cortexd.settings import ControllerSettings
from cortexd.store import load_requests_async as load_requests
from cortexd.store import observations
from cortexd.store.memory_async import stored_memory, write_memory

log = logging.getLogger("cortexd.controller")

ROUND_S = 0.2
POLLS_AT_ONCE = 64
LAST_USED_S = 1.0


class Controller:
    """One fleet. ``clock`` gives Unix seconds."""

    def __init__(
        self,
        engine: AsyncEngine,
        http: httpx.AsyncClient,
        settings: ControllerSettings,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._http = http
        self._settings = settings
        self._state_dir = state_dir
        self._clock = clock
        self._picture = Picture()
        self._recorder: Recorder | None = None
        self._memory = MemoryRecorder({})
        self._watchers: dict[str, Watcher] = {}
        self._polling: dict[str, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(POLLS_AT_ONCE)
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._last_used_at = 0.0
        self._away = False
        self._hands = Hands(engine, self._picture, self._watchers, clock, self._flush, self._changed)

    async def run(self, stop: asyncio.Event, rounded: Callable[[bool], None] = lambda _: None) -> None:
        """Rounds until ``stop`` is set; a database that is away ends nothing.

        ``rounded`` is called after each round, with whether the database answered.
        """
        deleting = asyncio.create_task(
            keep_deleting(self._engine, lambda: self._picture.fleet.retention, self._clock), name="retention"
        )
        try:
            while not stop.is_set():
                self._changed.clear()
                try:
                    await self._round()
                    self._say_back()
                except SQLAlchemyError as e:
                    self._say_away(e)
                rounded(not self._away)
                await self._pause(stop)
        finally:
            await self._hands.close()
            tasks = [deleting, *self._polling.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(self) -> None:
        if self._recorder is None:
            await load_requests.reset_orphans(self._engine, self._clock())
            rows = await observations.stored(self._engine)
            self._picture.take_over(rows, await observations.evictions(self._engine))
            self._memory = MemoryRecorder(await stored_memory(self._engine))
            self._recorder = Recorder(rows)
        version = await observations.live_version(self._engine)
        if version != self._picture.fleet.version:
            self._follow(await observations.load_fleet(self._engine))
        waiting = await load_requests.open_requests(self._engine)
        await self._refresh_last_used(bool(waiting))
        actions = decide(self._picture.fleet.desired, self._picture.observed(), waiting, self._clock())
        await self._hands.carry_out(actions)
        await self._flush()

    def _follow(self, fleet: observations.Fleet) -> None:
        """Poll the neurons of this generation, and no others."""
        log.info("generation %s, %d neurons", (fleet.desired.generation or "none")[:12], len(fleet.neurons))
        self._picture.set_fleet(fleet)
        for name, watcher in list(self._watchers.items()):
            if fleet.neurons.get(name) != watcher.client.target:
                self._polling.pop(name).cancel()
                del self._watchers[name]
        for name, target in fleet.neurons.items():
            if name not in self._watchers:
                client = NeuronClient(self._http, target, self._state_dir, self._settings.poll_timeout_s)
                watcher = Watcher(
                    client, self._picture, self._gate, self._settings.poll_interval_s, self._clock, self._changed
                )
                self._watchers[name] = watcher
                self._polling[name] = asyncio.create_task(watcher.run(), name=f"poll {name}")

    async def _refresh_last_used(self, waiting: bool) -> None:
        """Who was used when matters only to evictions: read it when one may be decided."""
        if not waiting and not may_evict_by_itself(self._picture.fleet.desired):
            return
        if self._clock() - self._last_used_at >= LAST_USED_S:
            self._picture.used(await observations.last_used(self._engine, self._picture.loaded()))
            self._last_used_at = self._clock()

    async def _flush(self) -> None:
        """Write what changed in the picture. Raises SQLAlchemyError; nothing is lost then."""
        async with self._writing:
            if self._recorder is None:
                return
            now = self._clock()
            rows, complete = self._picture.rows()
            changed, gone = self._recorder.changes(rows, complete, set(self._picture.fleet.neurons), now)
            await observations.write(self._engine, changed, gone)
            self._recorder.written(changed, gone, now)
            measured = self._memory.due(self._picture.fleet, self._picture.took())
            await write_memory(self._engine, measured, now)
            self._memory.written(measured)

    async def _pause(self, stop: asyncio.Event) -> None:
        """Until something changed, or a round's time. Never without a breath: changes come in bursts."""
        await asyncio.sleep(0.02)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._changed, stop)]
        await asyncio.wait(waits, timeout=ROUND_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _say_away(self, error: SQLAlchemyError) -> None:
        if not self._away:
            text = str(getattr(error, "orig", None) or error).splitlines()[0]
            hint = "; `cortexd apply` creates the tables" if "no such table" in text else ""
            log.error("the database does not answer, polling goes on without it: %s%s", text, hint)
        self._away = True

    def _say_back(self) -> None:
        if self._away:
            log.info("the database answers again")
        self._away = False
