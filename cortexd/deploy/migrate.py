"""Bringing a control database up to date with the migrations of this installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from cortexd.deploy.errors import ApplyError
from cortexd.models import Base
from cortexd.resources import resource


def config() -> Config:
    """alembic's configuration without alembic.ini: the migrations come from the checkout or the installed package."""
    made = Config()
    # % introduces interpolation there, and a path may hold one
    made.set_main_option("script_location", str(resource("migrations")).replace("%", "%%"))
    return made


@contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """A connection in one transaction that also covers DDL: committed at the end, rolled back on an exception.

    Python's sqlite3 would commit before DDL and begin too late for what was read; so for SQLite it is begun by hand.
    """
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            yield connection
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def up_to_date(connection: Connection) -> bool:
    """Whether the database is at the newest revision of this installation."""
    scripts = ScriptDirectory.from_config(config())
    return set(MigrationContext.configure(connection).get_current_heads()) == set(scripts.get_heads())


def upgrade(connection: Connection) -> bool:
    """Bring the database to the newest revision, from empty too; tells whether that changed anything.

    Raises ApplyError for a database that is not ours, or that a newer version has migrated.
    """
    setup = config()
    scripts = ScriptDirectory.from_config(setup)
    known = {script.revision for script in scripts.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    if unknown := sorted(set(current) - known):
        raise ApplyError(
            f"the database is at revision {', '.join(unknown)}, which this version does not know (it knows "
            f"{', '.join(sorted(known))}): a newer cortexd has migrated it; install that one, or use another database"
        )
    if not current and (foreign := sorted(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))):
        raise ApplyError(
            f"the database already has tables named {', '.join(foreign)}, but no revision: cortexd did not make them; "
            "name an empty database"
        )
    if set(current) == set(scripts.get_heads()):
        return False
    setup.attributes["connection"] = connection
    command.upgrade(setup, "head")
    return True
