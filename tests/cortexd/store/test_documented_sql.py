"""The SQL in docs/reference/database.md runs, and the page names every table and every column of the ledger."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cortexd.models import Base, Usage
from cortexd.store.connect import connect

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "database.md").read_text()
STATEMENTS = [s.strip() for block in re.findall(r"```sql\n(.*?)```", PAGE, re.S) for s in block.split(";") if s.strip()]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_runs(tmp_path: Path, statement: str) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'state.db'}")
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement).all()


def test_nothing_is_left_out() -> None:
    assert [t for t in Base.metadata.tables if f"`{t}`" not in PAGE] == []
    assert [c.name for c in Usage.__table__.columns if f"`{c.name}`" not in PAGE] == []
