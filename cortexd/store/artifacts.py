"""Which artifacts the live generation names."""

from __future__ import annotations

from sqlalchemy import Engine, select

from cortexd.models import Live, Model


def live_artifact(engine: Engine, manifest_sha256: str) -> str | None:
    """Where the compiler found it (a path, ``builtin:NAME`` or ``sha256:DIGEST``); None: no model of the fleet uses it.

    Raises SQLAlchemyError when the database is away.
    """
    query = (
        select(Model.artifact)
        .join(Live, Live.generation == Model.generation)
        .where(Model.manifest_sha256 == manifest_sha256)
        .order_by(Model.id)
        .limit(1)
    )
    with engine.connect() as connection:
        return connection.execute(query).scalar_one_or_none()
