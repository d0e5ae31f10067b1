"""The promise of apply and rollback on both kinds of database: all or nothing, and exactly back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, inspect, select

from cortexd.deploy import rows
from cortexd.deploy.apply import apply
from cortexd.deploy.rollback import rollback
from cortexd.models import ApplyHistory, Base, Live
from cortexd.store.connect import connect
from tests.cortexd.deploy.conftest import FLEET, MODELS, Place, files

DESIRED = ("host", "neuron", "device", "model", "alias", "placement", "account", "key")


def desired(url: str) -> dict[str, list[Any]]:
    """The live rows of every desired table."""
    engine = connect(url)
    with engine.connect() as connection:
        generation = connection.scalar(select(Live.generation))
        found: dict[str, list[Any]] = {"generation": [generation]}
        for name in DESIRED:
            table = Base.metadata.tables[name]
            mine = connection.execute(select(table).where(table.c.generation == generation)).mappings()
            found[name] = sorted((dict(row) for row in mine), key=str)
    engine.dispose()
    return found


def history(url: str) -> list[tuple[str, str]]:
    engine = connect(url)
    with engine.connect() as connection:
        found = connection.execute(select(ApplyHistory.kind, ApplyHistory.state).order_by(ApplyHistory.version))
        kinds = [(row.kind, row.state) for row in found]
    engine.dispose()
    return kinds


@pytest.fixture
def fleet(database_url: str) -> str:
    return FLEET + f'[database]\nurl = "{database_url}"\n[[accounts]]\nname = "lab"\n'


def test_two_applies_and_a_rollback_give_the_first_rows_and_files_again(
    place: Place, database_url: str, fleet: str
) -> None:
    one = place.compile(1, fleet=fleet)
    two = place.compile(2, models=MODELS.replace('task = "chat"', 'task = "chat"\nidle_ttl_s = 7'), fleet=fleet)

    apply(one, place.site)
    before, laid = desired(database_url), files(place.var)
    apply(two, place.site)
    between = desired(database_url)
    rollback(place.site)

    assert before["generation"] == [one.name] and between["generation"] == [two.name]
    assert between["model"][0]["settings"]["idle_ttl_s"] == 7 != before["model"][0]["settings"].get("idle_ttl_s")
    assert (desired(database_url), files(place.var)) == (before, laid)
    assert history(database_url) == [("apply", "live"), ("apply", "live"), ("rollback", "live")]


def test_a_failure_in_the_transaction_leaves_neither_tables_nor_rows(
    place: Place, database_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = place.compile(1, fleet=fleet)
    real = rows.make_current

    def broken(connection: Connection, *more: Any, **named: Any) -> Any:
        real(connection, *more, **named)
        raise RuntimeError("on purpose")

    monkeypatch.setattr(rows, "make_current", broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        apply(one, place.site)
    engine = connect(database_url)
    assert not set(inspect(engine).get_table_names()) & set(Base.metadata.tables)
    engine.dispose()

    monkeypatch.setattr(rows, "make_current", real)
    apply(one, place.site)
    assert desired(database_url)["generation"] == [one.name]
