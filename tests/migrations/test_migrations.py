"""The migrations make exactly the tables of ``cortexd.models``, and take them away again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

from cortexd.deploy.migrate import config, exclusive, upgrade
from cortexd.models import Base
from cortexd.store.connect import connect

ROOT = Path(__file__).parents[2]


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


def constraints(connection: Connection) -> dict[str, Any]:
    """What compare_metadata does not look at: primary keys, names and deletion rules."""
    found = inspect(connection)
    return {table: (found.get_pk_constraint(table), found.get_foreign_keys(table)) for table in Base.metadata.tables}


def test_an_upgrade_from_empty_gives_the_tables_of_the_models(tmp_path: Path) -> None:
    migrated, created = connect(f"sqlite:///{tmp_path}/migrated.db"), connect(f"sqlite:///{tmp_path}/created.db")
    Base.metadata.create_all(created)

    with exclusive(migrated) as connection:
        assert upgrade(connection) is True
    with migrated.connect() as one, created.connect() as other:
        assert differences(one) == []
        assert constraints(one) == constraints(other)
        # the conditions of partial indexes too
        indexes = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
        assert one.exec_driver_sql(indexes).all() == other.exec_driver_sql(indexes).all()
    with exclusive(migrated) as connection:
        assert upgrade(connection) is False


def test_a_downgrade_leaves_nothing(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/s.db")
    with exclusive(engine) as connection:
        upgrade(connection)
        setup = config()
        setup.attributes["connection"] = connection
        command.downgrade(setup, "base")

    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(RuntimeError), exclusive(engine) as connection:
        upgrade(connection)
        raise RuntimeError("after the tables were made")

    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []


def test_developers_reach_the_same_with_alembic_ini(tmp_path: Path) -> None:
    env = os.environ | {"CORTEXD_DATABASE_URL": f"sqlite:///{tmp_path}/s.db"}
    for arguments in (["upgrade", "head"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments], cwd=ROOT, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    offline = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head", "--sql"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert offline.returncode == 0 and "CREATE TABLE usage" in offline.stdout
