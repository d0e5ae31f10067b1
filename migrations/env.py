"""How alembic reaches the database: by the connection that ``cortexd apply`` hands in, or by URL for developers."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from cortexd.models import Base


def migrate(connection: Connection) -> None:
    """Run the migrations; whoever opened the connection decides about the transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def url() -> str:
    """CORTEXD_DATABASE_URL, else what alembic.ini says."""
    found = os.environ.get("CORTEXD_DATABASE_URL") or context.config.get_main_option("sqlalchemy.url")
    if not found:
        raise SystemExit("no database: set CORTEXD_DATABASE_URL or sqlalchemy.url in alembic.ini")
    return found


if context.is_offline_mode():
    context.configure(url=url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with create_engine(url()).connect() as opened:
        migrate(opened)
        opened.commit()
