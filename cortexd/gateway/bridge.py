"""From real threads back to greenlets: an event-loop watcher that threads may trigger."""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
from gevent.event import AsyncResult

from cortexd.ledger.row import UsageRow
from cortexd.ledger.writer import UsageWriter


class Commits:
    """Lets a greenlet wait until the writer's thread has made its row durable."""

    def __init__(self, writer: UsageWriter) -> None:
        self._writer = writer
        self._done: deque[tuple[AsyncResult, bool]] = deque()
        self._watcher: Any = gevent.get_hub().loop.async_()
        self._watcher.start(self._wake)

    def commit(self, row: UsageRow, timeout_s: float = 30.0) -> bool:
        """True once ``row`` is durable. False when neither database nor disk took it, or in time."""
        result = AsyncResult()

        def done(durable: bool) -> None:  # on the writer's thread
            self._done.append((result, durable))
            self._watcher.send()

        self._writer.write(row, done)
        return bool(result.wait(timeout_s))

    def _wake(self) -> None:
        while self._done:
            result, durable = self._done.popleft()
            result.set(durable)
