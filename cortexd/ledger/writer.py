"""Commits usage rows in one real thread: what gathers while one commit runs goes into the next (group commit).

Callers hand over a row and a callback; the callback runs on the writer's thread once the row is durable, in the
database or, while that is away, in the spool.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cortexd.ledger.row import UsageRow
from cortexd.ledger.spool import Spool
from cortexd.store.usage import insert_rows

log = logging.getLogger("cortexd.ledger")

# Rows per transaction at most, and how often a database that was away is tried again.
_BATCH = 500
_RETRY_S = 2.0

Done = Callable[[bool], None]


class UsageWriter:
    """Start it once per process, after the fork. ``write`` is safe from every thread."""

    def __init__(self, engine: Engine, spool_folder: Path) -> None:
        self._engine = engine
        self._spool = Spool(spool_folder)
        self._queue: SimpleQueue[tuple[UsageRow, Done] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="usage-writer", daemon=True)
        self._away_until = 0.0
        self._spooled = True  # look for what an earlier process left behind

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def write(self, row: UsageRow, done: Done) -> None:
        """Make ``row`` durable, then call ``done(True)``; ``done(False)`` when database and disk both failed."""
        self._queue.put((row, done))

    def stop(self, timeout_s: float = 15.0) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._gather()
            if batch:
                durable = self._commit([row for row, _ in batch])
                for _, done in batch:
                    done(durable)
            self._drain()
        self._spool.close()

    def _gather(self) -> tuple[list[tuple[UsageRow, Done]], bool]:
        """Wait for one row (or the time to look at the spool), then take all that are there."""
        batch: list[tuple[UsageRow, Done]] = []
        try:
            item = self._queue.get(timeout=_RETRY_S)
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch, False
                item = self._queue.get_nowait()
            return batch, True
        except Empty:
            return batch, False

    def _commit(self, rows: Sequence[UsageRow]) -> bool:
        # While the database is known to be away, no request waits for another timeout.
        if time.monotonic() >= self._away_until:
            try:
                insert_rows(self._engine, rows)
                return True
            except SQLAlchemyError as e:
                self._away(e)
        try:
            self._spool.append(rows)
        except OSError:
            log.exception("%d usage rows are lost: neither the database nor the spool takes them", len(rows))
            return False
        self._spooled = True
        return True

    def _drain(self) -> None:
        if not self._spooled or time.monotonic() < self._away_until:
            return
        try:
            count, complaints = self._spool.drain(lambda rows: insert_rows(self._engine, rows))
        except SQLAlchemyError as e:
            self._away(e)
            return
        except OSError as e:
            log.error("the spool cannot be read: %s", e)
            self._away_until = time.monotonic() + _RETRY_S
            return
        for complaint in complaints:
            log.warning("%s", complaint)
        if count:
            log.info("%d usage rows from the spool are in the database now", count)
        self._spooled = False

    def _away(self, error: SQLAlchemyError) -> None:
        self._away_until = time.monotonic() + _RETRY_S
        cause = getattr(error, "orig", None) or error
        log.warning("the database does not take usage rows, they go to the spool: %s", str(cause).splitlines()[0])
