"""Polling: one task per neuron, so that a hung one delays nobody."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from cortexd.controller.neuron_client import NeuronClient, NeuronError
from cortexd.controller.picture import Picture

log = logging.getLogger("cortexd.controller")

# A neuron that is away is looked for more often: it is back for clients when we see it.
AWAY_INTERVAL_S = 0.5
JITTER = 0.1


class Watcher:
    """Polls one neuron for ever. ``gate`` bounds how many polls run at once in the whole fleet."""

    def __init__(
        self,
        client: NeuronClient,
        picture: Picture,
        gate: asyncio.Semaphore,
        interval_s: float,
        clock: Callable[[], float],
        changed: asyncio.Event,
    ) -> None:
        self.client = client
        self._name = client.target.name
        self._picture = picture
        self._gate = gate
        self._interval_s = interval_s
        self._clock = clock
        self._changed = changed
        self._soon = asyncio.Event()

    def poll_soon(self) -> None:
        """Something was done to this neuron: look now instead of at the next interval."""
        self._soon.set()

    async def run(self) -> None:
        """The first poll at once, then one per interval with some jitter. Ends by cancellation."""
        while True:
            self._soon.clear()
            was_healthy = self._picture.is_healthy(self._name)
            await self.poll()
            healthy = self._picture.is_healthy(self._name)
            if healthy and self._picture.wants_description(self._name):
                self._picture.described(self._name, await self.client.describe())
                self._changed.set()
            if healthy != was_healthy:
                log.info("neuron %s is %s", self._name, "healthy" if healthy else "unhealthy")
            interval = self._interval_s if healthy else min(self._interval_s, AWAY_INTERVAL_S)
            try:
                async with asyncio.timeout(interval * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def poll(self) -> bool:
        """One poll into the picture. Returns whether the neuron answered."""
        started_at = self._clock()
        try:
            async with self._gate:
                report = await self.client.poll()
        except NeuronError as e:
            self._picture.missed(self._name, str(e), self._clock())
            return False
        else:
            self._picture.heard(self._name, report, started_at, self._clock())
            return True
        finally:
            self._changed.set()
