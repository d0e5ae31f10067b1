"""``fleet.db``: the desired tables of one generation as an SQLite file whose bytes depend on nothing but the rows."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, event, insert
from sqlalchemy.pool import NullPool

from compiler.rows import KEYS, Tables
from cortexd.models import Base


def write_database(path: Path, generation: str, tables: Tables) -> None:
    """Create ``path``. The file's header names the SQLite version; all other bytes follow from the rows."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def fixed_pages(connection, _record):  # type: ignore[no-untyped-def]
        cursor = connection.cursor()
        for pragma in (
            "page_size=4096",
            "encoding='UTF-8'",
            "auto_vacuum=NONE",
            "journal_mode=DELETE",
            "synchronous=OFF",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    with engine.begin() as connection:
        for table in KEYS:
            Base.metadata.tables[table].create(connection)
        for table, rows in tables.items():
            own = {"hash": generation} if table == "generation" else {"generation": generation}
            if rows:
                connection.execute(insert(Base.metadata.tables[table]), [own | dict(row) for row in rows])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM")
    engine.dispose()
