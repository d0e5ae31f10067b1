"""From rows to the immutable ``Snapshot`` that routing reads.

``version_token`` is the cheap question "has anything moved?", ``load`` the whole picture. A real thread of each gateway
asks them, never a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from sqlalchemy import Connection, Engine, func, select, text

from cortexd.models import (
    Alias,
    Generation,
    Key,
    Live,
    LoadRequest,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
)
from cortexd.routing.snapshot import EMPTY, KeyView, ModelView, NeuronView, ResidentView, Snapshot


def version_token(connection: Connection) -> Hashable:
    """A value that changes when the state may have moved; ``connection`` must be the same one each time.

    SQLite: ``PRAGMA data_version``, which moves with every commit of another connection. Otherwise: the version of
    ``live`` with the newest observation and load request.
    """
    if connection.dialect.name == "sqlite":
        token: Hashable = connection.execute(text("PRAGMA data_version")).scalar_one()
    else:
        live = select(func.max(Live.version)).scalar_subquery()
        polled = select(func.max(NeuronObservation.polled_at)).scalar_subquery()
        asked = select(func.max(LoadRequest.changed_at)).scalar_subquery()
        since = select(func.max(Resident.since)).scalar_subquery()
        held = select(func.count()).select_from(Resident).scalar_subquery()
        loaded = select(func.count()).select_from(Resident).where(Resident.state == "loaded").scalar_subquery()
        token = tuple(connection.execute(select(live, polled, asked, since, held, loaded)).one())
    # End the transaction: the next question must see what was committed since.
    connection.rollback()
    return token


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
    return Snapshot(
        generation=generation,
        version=live.version,
        neurons=_neurons(connection, generation),
        models=models,
        aliases=aliases,
        residents=_residents(connection),
        keys={
            row.secret_hash: KeyView(row.key_id, row.account)
            for row in connection.execute(
                select(Key.secret_hash, Key.key_id, Key.account).where(Key.generation == generation)
            )
        },
        settings=live.settings,
        applied_at=live.applied_at,
    )


def _neurons(connection: Connection, generation: str) -> dict[str, NeuronView]:
    rows = connection.execute(
        select(Neuron.name, Neuron.endpoint, Neuron.token_ref, NeuronObservation.healthy)
        .outerjoin(NeuronObservation, NeuronObservation.neuron == Neuron.name)
        .where(Neuron.generation == generation)
        .order_by(Neuron.name)
    )
    return {row.name: NeuronView(row.name, row.endpoint.rstrip("/"), bool(row.healthy), row.token_ref) for row in rows}


def _models(connection: Connection, generation: str) -> tuple[dict[str, ModelView], dict[str, str]]:
    placements: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(Placement.model, Placement.neuron)
        .where(Placement.generation == generation)
        .order_by(Placement.model, Placement.rank, Placement.neuron)
    ):
        placements[row.model].append(row.neuron)
    models = {
        row.id: ModelView(row.id, row.task, row.context, tuple(placements[row.id]), row.settings, row.pinned)
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
