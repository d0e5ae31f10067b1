"""Opening the control database, with the settings that each kind needs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a committed usage row survives power loss, which promise 2 needs.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def connect(url: str, *, busy_timeout_ms: int = 10_000) -> Engine:
    """A synchronous engine for ``sqlite:///PATH`` or ``postgresql+psycopg://…``. Opens no connection yet.

    ``busy_timeout_ms``: how long a SQLite write waits for another one.
    """
    engine = create_engine(url)
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
        if busy_timeout_ms != 10_000:
            event.listen(engine, "connect", lambda c, _: c.execute(f"PRAGMA busy_timeout={busy_timeout_ms}").close())
    return engine


def connect_async(url: str) -> AsyncEngine:
    """The asynchronous engine for the same URL (aiosqlite, or psycopg's own asyncio)."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine = create_async_engine(parsed.set(drivername="sqlite+aiosqlite") if sqlite else parsed)
    if sqlite:
        event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
    return engine
