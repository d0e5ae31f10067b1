"""What changes between two generations, as values."""

from __future__ import annotations

from compiler.plan import NOTHING, Create, Delete, Update, plan
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
