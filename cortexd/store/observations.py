"""The controller's queries: the current generation as residency reads it, and the observed tables as it keeps them.

All asynchronous, one transaction each. Raises SQLAlchemyError when the database does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from cortexd.models import (
    Decision,
    Device,
    DeviceObservation,
    Live,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
    Usage,
)
from cortexd.residency.state import Desired, PlacementWish, WantedModel

OBSERVED = {"neuron": NeuronObservation, "device": DeviceObservation, "resident": Resident}

# (table name of OBSERVED, primary key values) -> every column of the row
Rows = dict[tuple[str, tuple[str, ...]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NeuronTarget:
    """Where a neuron answers; ``token_ref`` names the file with its bearer token."""

    name: str
    endpoint: str
    token_ref: str | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """The live generation: what to poll and what to hold resident. ``version`` is 0 before the first apply."""

    version: int = 0
    neurons: Mapping[str, NeuronTarget] = field(default_factory=dict)
    desired: Desired = field(default_factory=lambda: Desired(None, {}))


async def live_version(engine: AsyncEngine) -> int:
    """The version of ``live``, 0 before the first apply. Cheap enough for several times a second."""
    async with engine.connect() as connection:
        return (await connection.scalar(select(Live.version))) or 0


async def load_fleet(engine: AsyncEngine) -> Fleet:
    """The live generation, read in one transaction."""
    async with engine.connect() as connection:
        live = (await connection.execute(select(Live.generation, Live.version))).first()
        if live is None:
            return Fleet()
        generation, version = live
        neurons = await connection.execute(
            select(Neuron.name, Neuron.endpoint, Neuron.token_ref).where(Neuron.generation == generation)
        )
        targets = {row.name: NeuronTarget(row.name, row.endpoint, row.token_ref) for row in neurons}
        return Fleet(version, targets, await _desired(connection, generation))


async def _desired(connection: AsyncConnection, generation: str) -> Desired:
    wishes: dict[str, list[PlacementWish]] = {}
    query = select(Placement.__table__).where(Placement.generation == generation)
    for row in await connection.execute(query.order_by(Placement.model, Placement.rank, Placement.neuron)):
        wishes.setdefault(row.model, []).append(PlacementWish(row.neuron, tuple(row.devices), row.pinned))
    models = {}
    for row in await connection.execute(select(Model.__table__).where(Model.generation == generation)):
        placements = tuple(wishes.get(row.id, ()))
        ttl = row.settings.get("idle_ttl_s")
        models[row.id] = WantedModel(row.id, row.need_bytes, placements, row.residency_priority, ttl)
    devices = await connection.execute(
        select(Device.neuron, Device.name, Device.memory_bytes).where(Device.generation == generation)
    )
    return Desired(generation, models, {(row.neuron, row.name): row.memory_bytes for row in devices})


async def stored(engine: AsyncEngine) -> Rows:
    """What the observed tables hold: where a controller that starts takes over from."""
    rows: Rows = {}
    async with engine.connect() as connection:
        for table, model in OBSERVED.items():
            keys = [column.name for column in model.__table__.primary_key]
            for row in (await connection.execute(select(model.__table__))).mappings():
                rows[table, tuple(row[key] for key in keys)] = dict(row)
    return rows


async def write(engine: AsyncEngine, changed: Rows, gone: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    """Insert or replace ``changed``, delete ``gone``; all in one transaction, nothing at all when both are empty."""
    gone = list(gone)
    if not changed and not gone:
        return
    async with AsyncSession(engine) as session, session.begin():
        for table, identity in gone:
            model = OBSERVED[table]
            keys = zip(model.__table__.primary_key, identity, strict=True)
            await session.execute(delete(model).where(*(column == value for column, value in keys)))
        for (table, _), row in changed.items():
            await session.merge(OBSERVED[table](**row))


async def last_used(engine: AsyncEngine, residents: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """(model, neuron) -> end of the latest request in the ledger; pairs without one are absent."""
    found = {}
    async with engine.connect() as connection:
        for model, neuron in residents:
            query = (
                select(Usage.started_at + Usage.duration_s)
                .where(Usage.model == model, Usage.neuron == neuron)
                .order_by(Usage.started_at.desc())
                .limit(1)
            )
            ended = await connection.scalar(query)
            if ended is not None:
                found[model, neuron] = float(ended)
    return found


async def record_decision(
    engine: AsyncEngine,
    *,
    at: float,
    kind: str,
    model: str,
    neuron: str | None,
    request: int | None,
    reason: str,
    inputs: Mapping[str, Any],
) -> None:
    """One row of ``decision``; ``request`` is a ``load_request`` id."""
    values = {"at": at, "kind": kind, "model": model, "neuron": neuron, "reason": reason, "inputs": dict(inputs)}
    request_id = None if request is None else str(request)
    async with engine.begin() as connection:
        await connection.execute(insert(Decision).values(request_id=request_id, **values))
