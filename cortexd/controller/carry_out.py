"""Carrying out actions: one at a time per neuron, each with its decision row, the result in the waiting requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd.controller.neuron_client import NeuronError
from cortexd.controller.picture import Picture
from cortexd.controller.watch import Watcher
from cortexd.residency import Action, Defrag, Evict, Fulfil, Load, Refuse
from cortexd.store import load_requests_async as load_requests
from cortexd.store.observations import record_decision

log = logging.getLogger("cortexd.controller")

# How long gateways get to see that a resident is draining before we look whether it is idle.
NOTICE_S = 0.5
WRITE_RETRY_S = 0.5


class Hands:
    """Starts actions. ``flush`` writes the picture to the database."""

    def __init__(
        self,
        engine: AsyncEngine,
        picture: Picture,
        watchers: Mapping[str, Watcher],
        clock: Callable[[], float],
        flush: Callable[[], Awaitable[None]],
        changed: asyncio.Event,
    ) -> None:
        self._engine = engine
        self._picture = picture
        self._watchers = watchers
        self._clock = clock
        self._flush = flush
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()

    async def carry_out(self, actions: tuple[Action, ...]) -> None:
        """Record every action and start it. Raises SQLAlchemyError when one cannot be recorded: it did not start."""
        evictions: dict[str, list[Evict]] = {}
        for action in actions:
            await self._record(action)
            match action:
                case Refuse():
                    state = "refused" if action.later else "failed"
                    await load_requests.finish(
                        self._engine, (action.request,), state, self._clock(), error=action.reason
                    )
                case Fulfil():
                    await self._flush()  # whoever waited must find the resident in the tables
                    await load_requests.finish(
                        self._engine, (action.request,), "loaded", self._clock(), neuron=action.neuron
                    )
                case Load():
                    await load_requests.set_loading(self._engine, action.requests, action.neuron, self._clock())
                    self._picture.begin(action.neuron, action.model, "loading")
                    self._spawn(self._load(action))
                case Evict():
                    evictions.setdefault(action.neuron, []).append(action)
                case Defrag():
                    group = [Evict(model, action.neuron, action.reason) for model in action.models]
                    self._start_evictions(action.neuron, group, clears=True)
        for neuron, group in evictions.items():
            self._start_evictions(neuron, group)

    async def close(self) -> None:
        """Cancel what runs. A neuron goes on with a load that it began; the next controller finds it there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _load(self, action: Load) -> None:
        log.info("loading %s on %s: %s", action.model, action.neuron, action.reason)
        watcher = self._watchers[action.neuron]
        started = self._clock()
        error: str | None = None
        try:
            await watcher.client.load(action.model)
        except NeuronError as e:
            error = str(e)
        now = self._clock()
        if error is None:
            log.info("loaded %s on %s in %.1f s", action.model, action.neuron, now - started)
            self._picture.end(action.neuron, action.model, now, resident=True)
            await self._until_written(self._flush)
            await self._until_written(
                lambda: load_requests.finish(self._engine, action.requests, "loaded", now, neuron=action.neuron)
            )
        else:
            log.warning("loading %s on %s failed: %s", action.model, action.neuron, error)
            self._picture.load_failed(action.neuron, action.model, error, now)
            await self._until_written(lambda: load_requests.requeue(self._engine, action.requests, error, now))
            self._picture.end(action.neuron, action.model, now, resident=None)
        self._look_again(watcher)

    def _start_evictions(self, neuron: str, group: list[Evict], *, clears: bool = False) -> None:
        for eviction in group:
            self._picture.begin(neuron, eviction.model, "draining")
        self._spawn(self._evict(neuron, group, clears=clears))

    async def _evict(self, neuron: str, group: list[Evict], *, clears: bool) -> None:
        """Drain, look again, unload. One that turns out to be busy stays, and so do those after it.

        ``clears``: once all are gone, the neuron's evictions are counted anew.
        """
        watcher = self._watchers[neuron]
        open_ = [eviction.model for eviction in group]
        try:
            await self._until_written(self._flush)
            await asyncio.sleep(NOTICE_S)
            for eviction in group:
                if not await self._is_idle(watcher, eviction.model):
                    log.info("%s on %s is busy and stays", eviction.model, neuron)
                    self._picture.hold(neuron, eviction.model, self._clock())
                    return
                log.info("unloading %s from %s: %s", eviction.model, neuron, eviction.reason)
                self._picture.begin(neuron, eviction.model, "unloading")
                await watcher.client.unload(eviction.model)
                self._picture.end(neuron, eviction.model, self._clock(), resident=False)
                open_.remove(eviction.model)
            if clears:
                self._picture.cleared(neuron)
        except NeuronError as e:
            log.warning("unloading %s from %s failed: %s", open_[0], neuron, e)
            self._picture.hold(neuron, open_[0], self._clock())
        finally:
            for model in open_:
                self._picture.end(neuron, model, self._clock(), resident=None)
            self._look_again(watcher)

    async def _is_idle(self, watcher: Watcher, model: str) -> bool:
        report = await watcher.client.poll()
        there = next((m for m in report.models if m.id == model), None)
        return there is None or (there.state == "loaded" and there.in_flight == 0 and there.queue_depth == 0)

    async def _record(self, action: Action) -> None:
        request: int | None = None
        if isinstance(action, Refuse | Fulfil):
            request = action.request
        elif isinstance(action, Load | Evict):
            request = next(iter(action.requests), None)
        await record_decision(
            self._engine,
            at=self._clock(),
            kind=type(action).__name__.lower(),
            model=None if isinstance(action, Defrag) else action.model,
            neuron=None if isinstance(action, Refuse) else action.neuron,
            request=request,
            reason=action.reason,
            inputs=action.inputs,
        )
        if isinstance(action, Refuse):
            log.warning("refused: %s", action.reason)

    async def _until_written(self, write: Callable[[], Awaitable[None]]) -> None:
        """The neuron has changed, so the database has to hear of it, however long it is away."""
        while True:
            try:
                return await write()
            except SQLAlchemyError:
                await asyncio.sleep(WRITE_RETRY_S)

    def _look_again(self, watcher: Watcher) -> None:
        watcher.poll_soon()
        self._changed.set()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an action ended with an unexpected error", exc_info=task.exception())
