"""The migrations, on SQLite and on PostgreSQL."""

from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from cortexd.deploy.migrate import config, exclusive, upgrade
from cortexd.models import Base, Generation
from cortexd.store.connect import connect


def test_migrations_go_up_and_down_and_leave_the_tables_of_the_models(database_url: str) -> None:
    engine = connect(database_url)
    with exclusive(engine) as connection:
        assert upgrade(connection) is True
    with exclusive(engine) as connection:
        assert upgrade(connection) is False
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert list(compare_metadata(context, Base.metadata)) == []
        connection.execute(select(Generation)).all()
    with exclusive(engine) as connection:
        setup = config()
        setup.attributes["connection"] = connection
        command.downgrade(setup, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 0
    engine.dispose()
