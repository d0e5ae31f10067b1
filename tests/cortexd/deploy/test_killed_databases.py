"""Killed applies, the way back and drift on both kinds of database."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import text

from cortexd.deploy import steps
from cortexd.deploy.apply import apply
from cortexd.deploy.drift import drift
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.store.connect import connect
from tests.cortexd.deploy.conftest import FLEET, Hosts, Place, compiled, die, files, in_child

HISTORY = "SELECT generation, kind, state FROM apply_history ORDER BY version"


@pytest.fixture
def fleet(database_url: str) -> str:
    return FLEET + f'[database]\nurl = "{database_url}"\n'


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    engine = connect(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]
    finally:
        engine.dispose()


def test_what_is_not_ready_goes_back_and_a_changed_row_is_drift(
    place: Place, hosts: Hosts, database_url: str, fleet: str
) -> None:
    one, two = place.compile(2, fleet=fleet), place.compile(3, fleet=fleet)
    apply(one, place.site, settings=hosts.settings())
    hosts.trouble["here", "ready", two.name] = "broken"
    with pytest.raises(NotReady):
        apply(two, place.site, settings=hosts.settings())

    assert files(place.var) == compiled(one, "here")
    assert rows(database_url, HISTORY) == [
        (one.name, "apply", "live"),
        (two.name, "apply", "failed"),
        (one.name, "return", "live"),
    ]
    assert apply(one, place.site, settings=hosts.settings()).nothing
    engine = connect(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE model SET context = 5"))
    engine.dispose()
    kinds = {d.kind for d in drift(place.site).differences}
    assert kinds == {"rows", "neuron"}, "the neuron of this fleet does not run"


@pytest.mark.parametrize("step", [name for name, _ in steps.STEPS])
def test_killed_after_any_step_it_is_completed(
    place: Place, hosts: Hosts, database_url: str, fleet: str, step: str
) -> None:
    one, two = place.compile(2, fleet=fleet), place.compile(3, fleet=fleet)
    apply(one, place.site)

    def work() -> None:
        apply(two, place.site, settings=hosts.settings(after=lambda done: die() if done == step else None))

    assert in_child(work) == signal.SIGKILL
    assert rows(database_url, "SELECT generation FROM live") in ([(one.name,)], [(two.name,)])
    apply(two, place.site)

    assert rows(database_url, HISTORY) == [(one.name, "apply", "live"), (two.name, "apply", "live")]
    assert files(place.var) == compiled(two, "here")


def test_a_database_that_does_not_answer_is_a_sentence(place: Place) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql+psycopg://cortexd@/fleet?host={place.folder}"

    with pytest.raises(ApplyError, match="cannot be used"):
        apply(place.compile(2, fleet=FLEET + f'[database]\nurl = "{url}"\n'), place.site)
