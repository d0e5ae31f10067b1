"""Phase 5: what changes from one set of rows to another, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.rows import KEYS, Row, Tables

NOTHING: Tables = dict.fromkeys(KEYS, ())

# Shown as changed, never with their values.
_HIDDEN = frozenset({"secret_hash"})


@dataclass(frozen=True, slots=True)
class Create:
    """A row that is not there yet."""

    table: str
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"+ {_name(self.table, self.key)}"


@dataclass(frozen=True, slots=True)
class Update:
    """A row of which some columns change: column -> (before, after)."""

    table: str
    key: tuple[str, ...]
    columns: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        parts = [part for column, (old, new) in sorted(self.columns.items()) for part in _shown(column, old, new)]
        return f"~ {_name(self.table, self.key)}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Delete:
    """A row that goes."""

    table: str
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"- {_name(self.table, self.key)}"


Change = Create | Update | Delete

# Losing most of these at once is rarely meant; losing all of them takes a whole part of the fleet away.
_MANY = ("neuron", "model", "key")
_ALL = ("host", "neuron", "model", "account", "key")


@dataclass(frozen=True, slots=True)
class MassDeletion:
    """``deleted`` of the ``of`` rows of a table would go, which is asked about first."""

    table: str
    deleted: int
    of: int

    def __str__(self) -> str:
        return f"{self.deleted} of {self.of} {self.table}s" if self.deleted < self.of else f"every {self.table}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows that shall be, and what has to change for it: sorted by table, then key."""

    desired: Tables
    changes: tuple[Change, ...]


def plan(desired: Tables, live: Tables) -> Plan:
    """The way from ``live`` (``NOTHING`` for an empty database) to ``desired``."""
    changes: list[Change] = []
    for table in KEYS:
        before, after = _by_key(table, live), _by_key(table, desired)
        for key in sorted(before.keys() | after.keys()):
            if key not in before:
                changes.append(Create(table, key))
            elif key not in after:
                changes.append(Delete(table, key))
            elif columns := _difference(before[key], after[key]):
                changes.append(Update(table, key, columns))
    return Plan(desired, tuple(changes))


def mass_deletions(desired: Tables, live: Tables) -> tuple[MassDeletion, ...]:
    """What would go at once: at least two and more than half of the neurons, models or keys, or all rows of a kind.

    A row with a new name in place of the only one of its kind is no such thing.
    """
    found = []
    for table in _ALL:
        before, after = _by_key(table, live), _by_key(table, desired)
        gone = len(before.keys() - after.keys())
        many = table in _MANY and gone >= 2 and 2 * gone > len(before)
        if many or (before and not after):
            found.append(MassDeletion(table, gone, len(before)))
    return tuple(found)


def as_json(change: Change) -> dict[str, Any]:
    """For programs. What is never shown is ``null`` on both sides."""
    fields: dict[str, Any] = {"action": type(change).__name__.lower(), "table": change.table, "key": list(change.key)}
    if isinstance(change, Update):
        fields["columns"] = {
            name: [None, None] if name in _HIDDEN else [old, new] for name, (old, new) in sorted(change.columns.items())
        }
    return fields


def _by_key(table: str, tables: Tables) -> dict[tuple[str, ...], Row]:
    return {tuple(row[column] for column in KEYS[table]): row for row in tables[table]}


def _difference(before: Row, after: Row) -> dict[str, tuple[Any, Any]]:
    columns = sorted(before.keys() | after.keys())
    return {c: (before.get(c), after.get(c)) for c in columns if before.get(c) != after.get(c)}


def _shown(name: str, old: Any, new: Any) -> list[str]:
    """One line per value that differs, however deep it stands."""
    if name in _HIDDEN:
        return [name]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return [line for key in keys for line in _shown(f"{name}.{key}", old.get(key), new.get(key))]
    return [f"{name} {old} -> {new}"]


def _name(table: str, key: tuple[str, ...]) -> str:
    return f"{table} {'/'.join(key)}" if key else "settings of the fleet"
