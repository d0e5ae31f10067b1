"""What changes between two generations, as values."""

from __future__ import annotations

import pytest

from compiler.plan import NOTHING, Create, Delete, Update, as_json, mass_deletions, plan
from compiler.rows import Tables


def tables(**rows: list[dict[str, object]]) -> Tables:
    return NOTHING | {name: tuple(entries) for name, entries in rows.items()}


def test_nothing_changes_between_equal_rows() -> None:
    same = tables(host=[{"name": "a", "address": "x"}])

    assert plan(same, same).changes == ()


def test_changes_come_sorted_by_table_then_key() -> None:
    before = tables(alias=[{"name": "old", "model": "m"}], host=[{"name": "b", "address": "x"}])
    after = tables(
        alias=[{"name": "new", "model": "m"}], host=[{"name": "a", "address": "x"}, {"name": "b", "address": "y"}]
    )

    assert plan(after, before).changes == (
        Create("host", ("a",)),
        Update("host", ("b",), {"address": ("x", "y")}),
        Create("alias", ("new",)),
        Delete("alias", ("old",)),
    )


def test_an_update_shows_only_what_differs_and_never_a_hash() -> None:
    before = {"settings": {"gateway": {"workers": 2, "listen": "x"}}, "fleet": "a"}
    after = {"settings": {"gateway": {"workers": 3, "listen": "x"}}, "fleet": "a"}
    key = {"key_id": "k", "account": "a"}
    (settings, secret) = plan(
        tables(generation=[after], key=[key | {"secret_hash": "bbbb"}]),
        tables(generation=[before], key=[key | {"secret_hash": "aaaa"}]),
    ).changes

    assert str(settings) == "~ settings of the fleet: settings.gateway.workers 2 -> 3"
    assert str(secret) == "~ key k: secret_hash"


def named(table: str, *names: str) -> Tables:
    column = {"model": "id", "key": "key_id"}.get(table, "name")
    return tables(**{table: [{column: name} for name in names]})


@pytest.mark.parametrize(
    ("table", "before", "after", "said"),
    [
        ("model", "abcd", "ab", None),
        ("model", "abcd", "a", "3 of 4 models"),
        ("model", "abc", "axy", "2 of 3 models"),
        ("model", "ab", "b", None),
        ("model", "a", "b", None),
        ("model", "ab", "xy", "every model"),
        ("model", "a", "", "every model"),
        ("neuron", "abc", "a", "2 of 3 neurons"),
        ("key", "a", "", "every key"),
        ("host", "abc", "a", None),
        ("host", "abc", "", "every host"),
        ("account", "ab", "xy", None),
        ("alias", "abc", "", None),
        ("model", "", "abc", None),
    ],
)
def test_losing_most_at_once_is_a_mass_deletion(table: str, before: str, after: str, said: str | None) -> None:
    found = mass_deletions(named(table, *after), named(table, *before))

    assert [str(m) for m in found] == ([said] if said else [])


def test_changes_for_programs_hide_secrets_too() -> None:
    (change,) = plan(
        tables(key=[{"key_id": "k", "secret_hash": "b", "account": "y"}]),
        tables(key=[{"key_id": "k", "secret_hash": "a", "account": "x"}]),
    ).changes

    assert as_json(change) == {
        "action": "update",
        "table": "key",
        "key": ["k"],
        "columns": {"account": ["x", "y"], "secret_hash": [None, None]},
    }
    assert as_json(Create("host", ("a",))) == {"action": "create", "table": "host", "key": ["a"]}
