"""The worker's snapshot, kept current by one real thread. Requests read an attribute, never the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from dataclasses import replace
from threading import Event, Thread

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from cortexd.gateway import metrics
from cortexd.gateway.secrets import Secrets
from cortexd.routing.snapshot import EMPTY, KeyView, Snapshot
from cortexd.store.snapshot import read, version_token

log = logging.getLogger("cortexd.gateway")

_POLL_S = 0.15
_RETRY_S = 1.0
# How often the files with secrets are looked at: 1,000 of them take 7 ms.
_LOOK_S = 0.5


class Picture:
    """``snapshot`` is the last one that could be read; without a database it stays as it is.

    Its keys are those of the database and those that ``secrets`` found, which are looked after twice a second.
    """

    def __init__(self, engine: Engine) -> None:
        self.snapshot: Snapshot = EMPTY
        self.secrets = Secrets()
        self._read: Snapshot = EMPTY
        self._found: dict[str, KeyView] = {}
        self._looked_at = 0.0
        self._engine = engine
        self._token: Hashable = None
        self._known = False
        self._stop = Event()
        self._connection: Connection | None = None
        self._thread = Thread(target=self._run, name="snapshot", daemon=True)

    @property
    def known(self) -> bool:
        """Whether the database was read once, be it that nothing is applied in it."""
        return self._known

    def start(self) -> None:
        """Read once (so that the first request finds a snapshot), then follow in a thread."""
        self._refresh()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        away = self._connection is None
        while not self._stop.wait(_RETRY_S if away else _POLL_S):
            was_away, away = away, not self._refresh()
            if was_away and not away:
                log.info("the database is back")
        if self._connection is not None:
            self._connection.close()

    def _refresh(self) -> bool:
        before = self._read
        there = self._read_rows()
        now = time.monotonic()
        if self._read is before and now - self._looked_at < _LOOK_S:
            return there
        self._looked_at = now
        found = self.secrets.resolve(self._read.key_refs, self._read.keys)
        if self._read is not before or found != self._found:
            self._found = found
            self.snapshot = replace(self._read, keys={**self._read.keys, **found}) if found else self._read
            metrics.unresolved_keys(len(self.secrets.problems))
        return there

    def _read_rows(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            # The token first: what is committed while the rows are read moves it again.
            token = version_token(self._connection)
            if token != self._token:
                snapshot = read(self._connection)
                self._connection.rollback()
                self._token = token
                if snapshot != self._read:
                    self._read = snapshot
            self._known = True
            return True
        except SQLAlchemyError as e:
            if self._connection is not None or self._read is EMPTY:
                cause = getattr(e, "orig", None) or e
                why = str(cause).splitlines()[0]
                log.warning("the database is away, routing goes on from the last snapshot: %s", why)
            self._forget()
            return False

    def _forget(self) -> None:
        connection, self._connection, self._token = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()
