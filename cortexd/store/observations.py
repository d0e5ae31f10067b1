"""The controller's queries: the current generation as residency reads it, and the observed tables as it keeps them.

All asynchronous, one transaction each. Raises SQLAlchemyError when the database does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from cortexd.models import (
    Decision,
    Device,
    DeviceObservation,
    Generation,
    Live,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
    Usage,
)
from cortexd.residency.state import Desired, EvictionPolicy, PlacementWish, WantedModel
from cortexd.store.retention import Retention, from_settings

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
    """The live generation: what to poll and what to hold resident. ``version`` is 0 before the first apply.

    ``shapes``: model -> sha256 of its manifest, context in tokens, sequences: what its memory was predicted for.
    """

    version: int = 0
    neurons: Mapping[str, NeuronTarget] = field(default_factory=dict)
    desired: Desired = field(default_factory=lambda: Desired(None, {}))
    retention: Retention = field(default_factory=Retention)
    shapes: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)


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
        settings = await connection.scalar(select(Generation.settings).where(Generation.hash == generation)) or {}
        desired = await _desired(connection, generation, settings)
        shape = select(Model.id, Model.manifest_sha256, Model.context, Model.max_sequences)
        rows = await connection.execute(shape.where(Model.generation == generation))
        shapes = {row.id: (row.manifest_sha256, row.context, row.max_sequences) for row in rows}
        return Fleet(version, targets, desired, from_settings(settings.get("retention", {})), shapes)


async def _desired(connection: AsyncConnection, generation: str, settings: Mapping[str, Any]) -> Desired:
    devices = (await connection.execute(select(Device.__table__).where(Device.generation == generation))).all()
    kinds = {(row.neuron, row.name): row.kind for row in devices}
    rows = (await connection.execute(select(Model.__table__).where(Model.generation == generation))).all()
    measured = {row.id: row.settings.get("share_bytes", {}) for row in rows}
    wishes: dict[str, list[PlacementWish]] = {}
    eviction = settings.get("eviction", {})
    query = select(Placement.__table__).where(Placement.generation == generation)
    for row in await connection.execute(query.order_by(Placement.model, Placement.rank, Placement.neuron)):
        share = measured.get(row.model, {}).get(kinds.get((row.neuron, next(iter(row.devices), ""))))
        wishes.setdefault(row.model, []).append(PlacementWish(row.neuron, tuple(row.devices), row.pinned, share))
    models = {}
    for row in rows:
        placements = tuple(wishes.get(row.id, ()))
        replicas = row.settings.get("replicas")
        models[row.id] = WantedModel(
            id=row.id,
            need_bytes=row.need_bytes,
            placements=placements,
            priority=row.residency_priority,
            idle_ttl_s=row.settings.get("idle_ttl_s", eviction.get("idle_ttl_s")),
            on_pressure=row.settings.get("on_pressure", "evict"),
            min_replicas=(replicas or {}).get("min", 0),
            # Declared without a maximum: as many as there are neurons. Not declared: one on demand.
            max_replicas=None if replicas is None else replicas.get("max", len(placements)),
            max_sequences=row.max_sequences,
        )
    return Desired(
        generation=generation,
        models=models,
        device_bytes={(row.neuron, row.name): row.memory_bytes for row in devices},
        eviction=EvictionPolicy(eviction.get("strategy", "lru"), eviction.get("defrag_after_cycles", 0)),
        wait_s=settings.get("gateway", {}).get("cold_load_wait_s", 600.0),
    )


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


async def evictions(engine: AsyncEngine) -> dict[str, list[float]]:
    """Neuron -> when something was evicted there (Unix seconds), since the last ``defrag`` decision; oldest first."""
    cleared = (
        select(Decision.neuron, func.max(Decision.id).label("id"))
        .where(Decision.kind == "defrag")
        .group_by(Decision.neuron)
        .subquery()
    )
    query = (
        select(Decision.neuron, Decision.at)
        .outerjoin(cleared, cleared.c.neuron == Decision.neuron)
        .where(Decision.kind == "evict", Decision.id > func.coalesce(cleared.c.id, 0))
        .order_by(Decision.id)
    )
    found: dict[str, list[float]] = {}
    async with engine.connect() as connection:
        for neuron, at in await connection.execute(query):
            found.setdefault(str(neuron), []).append(at)
    return found


async def record_decision(
    engine: AsyncEngine,
    *,
    at: float,
    kind: str,
    model: str | None,
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
