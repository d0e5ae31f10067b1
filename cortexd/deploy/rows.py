"""The live rows and how they came about. Everything here runs inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from compiler.plan import NOTHING
from compiler.rows import KEYS, Tables, sort_rows
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.generation import CompiledGeneration
from cortexd.models import ApplyHistory, Base, Generation, Live


@dataclass(frozen=True, slots=True)
class Switched:
    """One row of the history; times are Unix seconds."""

    version: int
    applied_at: float
    previous: str | None
    generation: str
    kind: str
    state: str
    finished_at: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is live: hash and version (None and 0 before the first apply), its rows, and the switch that led there."""

    generation: str | None
    version: int
    tables: Tables
    last: Switched | None


NEVER = Situation(None, 0, NOTHING, None)


def situation(connection: Connection) -> Situation:
    """What is live now."""
    live = connection.execute(select(Live.generation, Live.version).where(Live.id == 1)).first()
    if live is None:
        return NEVER
    last = [entry for entry in history(connection) if entry.version == live.version]
    return Situation(live.generation, live.version, read_tables(connection, live.generation), last[0] if last else None)


def read_tables(connection: Connection, generation: str) -> Tables:
    """The rows of one generation, without the column that names it."""
    found = {}
    for name in KEYS:
        table = Base.metadata.tables[name]
        owner = table.c.hash if name == "generation" else table.c.generation
        columns = [c for c in table.c if c is not owner]
        rows = connection.execute(select(*columns).where(owner == generation)).mappings()
        found[name] = sort_rows(name, [dict(row) for row in rows])
    return found


def check_columns(generation: CompiledGeneration) -> None:
    """Raise ApplyError for rows that the tables of this release have no place for, or want more of."""
    for name, rows in generation.tables.items():
        known = {column.name for column in Base.metadata.tables[name].c} - {"hash", "generation"}
        if rows and rows[0].keys() != known:
            raise ApplyError(
                f"generation {generation.hash[:12]} was compiled by another release (its {name} rows have other "
                "columns); compile it again with this one"
            )


def history(connection: Connection) -> list[Switched]:
    """Every switch, the oldest first."""
    found = connection.execute(select(ApplyHistory.__table__).order_by(ApplyHistory.version)).mappings()
    return [Switched(**row) for row in found]


def make_current(connection: Connection, generation: CompiledGeneration, kind: str, base: int, now: float) -> int:
    """Store the rows (unless they are there: a generation's rows never change) and flip ``live``; its new version.

    ``base`` is the version that the plan was made for. Raises ApplyError when it is not the live one any more.
    """
    known = connection.execute(select(Generation.hash).where(Generation.hash == generation.hash)).first()
    if known is None:
        for name in KEYS:
            own = {"hash": generation.hash} if name == "generation" else {"generation": generation.hash}
            if rows := [own | dict(row) for row in generation.tables[name]]:
                connection.execute(insert(Base.metadata.tables[name]), rows)
    return _flip(connection, generation.hash, kind, base, now)


def make_ready(connection: Connection, version: int, now: float) -> None:
    """All hosts were ready with it."""
    _end(connection, version, "live", None, now)


def make_failed(connection: Connection, version: int, error: str, now: float) -> None:
    """They never were, and it stays for want of another one."""
    _end(connection, version, "failed", error, now)


def go_back(connection: Connection, version: int, previous: str, error: str, now: float) -> int:
    """Version ``version`` failed: ``previous`` is live again; its new version."""
    _end(connection, version, "failed", error, now)
    return _flip(connection, previous, "return", version, now)


def _flip(connection: Connection, generation: str, kind: str, base: int, now: float) -> int:
    live = connection.execute(select(Live.generation, Live.version).where(Live.id == 1).with_for_update()).first()
    if (live.version if live else 0) != base:
        raise ApplyError(
            f"somebody else applied meanwhile: the live version is {live.version if live else 0}, this was planned for "
            f"{base}; nothing was changed; look at `cortexd plan` again"
        )
    values = {"generation": generation, "version": base + 1, "applied_at": now}
    if live:
        connection.execute(update(Live).where(Live.id == 1).values(values))
    else:
        connection.execute(insert(Live).values(id=1, **values))
    previous = live.generation if live else None
    connection.execute(insert(ApplyHistory).values(previous=previous, kind=kind, state="applying", **values))
    return base + 1


def _end(connection: Connection, version: int, state: str, error: str | None, now: float) -> None:
    connection.execute(
        update(ApplyHistory).where(ApplyHistory.version == version).values(state=state, error=error, finished_at=now)
    )
