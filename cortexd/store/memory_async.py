"""The controller's part of ``memory_observation``: what it holds, and what has to be added.

Asynchronous, one transaction each. Raises SQLAlchemyError when the database does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from cortexd.models import MemoryObservation


@dataclass(frozen=True, slots=True)
class Key:
    """A model in one shape on one device."""

    neuron: str
    device: str
    model: str
    manifest_sha256: str
    context: int
    max_sequences: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Bytes on that device: what the memory proof said, and what the neuron measured."""

    predicted_bytes: int
    measured_bytes: int


async def stored_memory(engine: AsyncEngine) -> dict[Key, Seen]:
    """All that is known."""
    o = MemoryObservation
    columns = (o.neuron, o.device, o.model, o.manifest_sha256, o.context, o.max_sequences)
    async with engine.connect() as connection:
        rows = await connection.execute(select(*columns, o.predicted_bytes, o.measured_bytes))
        return {Key(*row[:6]): Seen(*row[6:]) for row in rows}


async def write_memory(engine: AsyncEngine, entries: Iterable[tuple[Key, Seen]], now: float) -> None:
    """Insert or replace; nothing at all when there is nothing."""
    entries = list(entries)
    if not entries:
        return
    async with AsyncSession(engine) as session, session.begin():
        for key, seen in entries:
            await session.merge(MemoryObservation(**asdict(key), **asdict(seen), measured_at=now))
