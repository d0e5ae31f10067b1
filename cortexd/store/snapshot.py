"""From rows to the immutable ``Snapshot`` that routing reads.

``version_token`` is the cheap question "has anything moved?", ``load`` the whole picture. A real thread of each gateway
asks them, never a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, func, literal, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by

from cortexd.models import (
    Account,
    Alias,
    Generation,
    Key,
    Live,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
)
from cortexd.routing.snapshot import EMPTY, KeyRef, KeyView, ModelView, NeuronView, ResidentView, Snapshot


def version_token(connection: Connection) -> Hashable:
    """A value that changes when the state may have moved; ``connection`` must be the same one each time.

    SQLite: ``PRAGMA data_version``, which moves with every commit of another connection. PostgreSQL: the version of
    ``live`` with a digest of what was observed.
    """
    if connection.dialect.name == "sqlite":
        token: Hashable = connection.execute(text("PRAGMA data_version")).scalar_one()
    else:
        live = select(func.max(Live.version)).scalar_subquery()
        health = _digest(NeuronObservation.neuron, NeuronObservation.healthy)
        held = _digest(Resident.neuron, Resident.model, Resident.state, Resident.in_flight, Resident.queue_depth)
        token = tuple(connection.execute(select(live, health, held)).one())
    # End the transaction: the next question must see what was committed since.
    connection.rollback()
    return token


def _digest(*columns: Any) -> Any:
    """The columns of all rows, sorted, as one short text."""
    row = func.concat_ws(" ", *columns)
    rows = func.string_agg(row, aggregate_order_by(literal(","), row))
    return select(func.md5(rows)).scalar_subquery()


def load(engine: Engine) -> Snapshot:
    """The current picture; EMPTY before the first apply. Raises SQLAlchemyError when the database is away."""
    with engine.connect() as connection:
        return read(connection)


def read(connection: Connection) -> Snapshot:
    """As ``load``, on a connection that is open already."""
    live = connection.execute(
        select(Live.generation, Live.version, Live.applied_at, Generation.settings).join(
            Generation, Generation.hash == Live.generation
        )
    ).first()
    if live is None:
        return EMPTY
    generation = live.generation
    models, aliases = _models(connection, generation)
    keys, key_refs = _keys(connection, generation, aliases)
    return Snapshot(
        generation=generation,
        version=live.version,
        neurons=_neurons(connection, generation),
        models=models,
        aliases=aliases,
        residents=_residents(connection),
        keys=keys,
        settings=live.settings,
        applied_at=live.applied_at,
        key_refs=key_refs,
    )


def _neurons(connection: Connection, generation: str) -> dict[str, NeuronView]:
    rows = connection.execute(
        select(Neuron.name, Neuron.endpoint, Neuron.token_ref, NeuronObservation.healthy)
        .outerjoin(NeuronObservation, NeuronObservation.neuron == Neuron.name)
        .where(Neuron.generation == generation)
        .order_by(Neuron.name)
    )
    return {row.name: NeuronView(row.name, row.endpoint.rstrip("/"), bool(row.healthy), row.token_ref) for row in rows}


def _keys(
    connection: Connection, generation: str, aliases: Mapping[str, str]
) -> tuple[dict[str, KeyView], tuple[KeyRef, ...]]:
    rows = connection.execute(
        select(Key.key_id, Key.account, Key.secret_hash, Key.secret_ref, Key.settings, Account.settings.label("whole"))
        .outerjoin(Account, (Account.generation == Key.generation) & (Account.name == Key.account))
        .where(Key.generation == generation)
        .order_by(Key.key_id)
    )
    keys: dict[str, KeyView] = {}
    refs: list[KeyRef] = []
    for row in rows:
        models: frozenset[str] | None = None
        for settings in (row.settings, row.whole or {}):  # a key's own list, within its account's
            if (named := settings.get("models")) is not None:
                ids = frozenset(aliases.get(name, name) for name in named)
                models = ids if models is None else models & ids
        key = KeyView(row.key_id, row.account, models)
        if row.secret_hash is not None:
            keys[row.secret_hash] = key
        else:
            refs.append(KeyRef(row.secret_ref, key))
    return keys, tuple(refs)


def _models(connection: Connection, generation: str) -> tuple[dict[str, ModelView], dict[str, str]]:
    placements: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(Placement.model, Placement.neuron)
        .where(Placement.generation == generation)
        .order_by(Placement.model, Placement.rank, Placement.neuron)
    ):
        placements[row.model].append(row.neuron)
    models = {
        row.id: ModelView(
            id=row.id,
            task=row.task,
            context=row.context,
            placements=tuple(placements[row.id]),
            settings=row.settings,
            pinned=row.pinned,
            output_limit=row.settings.get("limits", {}).get("output"),
            fallback=tuple(row.settings.get("fallback", ())),
        )
        for row in connection.execute(
            select(Model.id, Model.task, Model.context, Model.settings, Model.pinned)
            .where(Model.generation == generation)
            .order_by(Model.id)
        )
    }
    named = select(Alias.name, Alias.model).where(Alias.generation == generation).order_by(Alias.name)
    return models, {row.name: row.model for row in connection.execute(named)}


def _residents(connection: Connection) -> dict[str, tuple[ResidentView, ...]]:
    residents: dict[str, list[ResidentView]] = defaultdict(list)
    for row in connection.execute(
        select(Resident.neuron, Resident.model, Resident.state, Resident.in_flight, Resident.queue_depth).order_by(
            Resident.model, Resident.neuron
        )
    ):
        residents[row.model].append(ResidentView(row.neuron, row.model, row.state, row.in_flight, row.queue_depth))
    return {model: tuple(held) for model, held in residents.items()}
