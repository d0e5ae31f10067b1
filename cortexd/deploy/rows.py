"""The live rows: what is current, and the switch to another generation. Runs inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from compiler.plan import NOTHING
from compiler.rows import KEYS, Tables
from cortexd.deploy.generation import CompiledGeneration, read_tables
from cortexd.models import ApplyHistory, Base, Generation, Live


def current(connection: Connection) -> tuple[str | None, Tables]:
    """Hash and rows of the live generation; None and no rows before the first apply."""
    live = connection.execute(select(Live.generation).where(Live.id == 1)).scalar_one_or_none()
    return (live, read_tables(connection, live)) if live is not None else (None, NOTHING)


def make_current(connection: Connection, generation: CompiledGeneration, now: float) -> int:
    """Store the rows (unless they are there: a generation's rows never change) and flip ``live``; its new version."""
    known = connection.execute(select(Generation.hash).where(Generation.hash == generation.hash)).first()
    if known is None:
        for name in KEYS:
            own = {"hash": generation.hash} if name == "generation" else {"generation": generation.hash}
            if rows := [own | dict(row) for row in generation.tables[name]]:
                connection.execute(insert(Base.metadata.tables[name]), rows)
    live = connection.execute(select(Live.generation, Live.version).where(Live.id == 1).with_for_update()).first()
    version = live.version + 1 if live else 1
    values = {"generation": generation.hash, "version": version, "applied_at": now}
    if live:
        connection.execute(update(Live).where(Live.id == 1).values(values))
    else:
        connection.execute(insert(Live).values(id=1, **values))
    previous = live.generation if live else None
    connection.execute(insert(ApplyHistory).values(previous=previous, **values))
    return version
