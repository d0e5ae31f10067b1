"""Which rows have to be written: only what changed, so that no gateway reloads its snapshot for nothing. Pure."""

from __future__ import annotations

from typing import Any

from cortexd.store.observations import Rows

# All rows are written at least this often when they differ at all: how old "last polled" may look.
HEARTBEAT_S = 10.0
# Load numbers move all the time; gateways know their own requests, so theirs need not be exact.
LOAD_NUMBERS_S = 1.0
MEMORY_STEP = 0.01

_SLOW = {
    "neuron": {"polled_at"},
    "device": {"utilization_pct", "memory_used_bytes"},
    "resident": {"in_flight", "queue_depth"},
}


class Recorder:
    """Holds the rows as they are in the database, and compares."""

    def __init__(self, stored: Rows) -> None:
        self._stored = dict(stored)
        self._beat_at = 0.0
        self._load_at = 0.0

    def changes(
        self, rows: Rows, complete: set[tuple[str, str]], neurons: set[str], now: float
    ) -> tuple[Rows, list[tuple[str, tuple[str, ...]]]]:
        """What to write and what to delete.

        ``rows`` are all that should be there for the (table, neuron) in ``complete``; rows of neurons that are not in
        ``neurons`` go.
        """
        beat = now - self._beat_at >= HEARTBEAT_S
        load = beat or now - self._load_at >= LOAD_NUMBERS_S
        changed = {
            key: row
            for key, row in rows.items()
            if self._matters(key[0], self._stored.get(key), row, beat=beat, load=load)
        }
        gone = [
            key
            for key in self._stored
            if key[1][0] not in neurons or ((key[0], key[1][0]) in complete and key not in rows)
        ]
        return changed, gone

    def written(self, changed: Rows, gone: list[tuple[str, tuple[str, ...]]], now: float) -> None:
        """The changes are committed."""
        for key in gone:
            self._stored.pop(key, None)
        self._stored.update(changed)
        if now - self._beat_at >= HEARTBEAT_S:
            self._beat_at = now
        if any(key[0] == "resident" for key in changed):
            self._load_at = now

    def _matters(
        self, table: str, before: dict[str, Any] | None, after: dict[str, Any], *, beat: bool, load: bool
    ) -> bool:
        if before is None:
            return True
        differing = {column for column, value in after.items() if before[column] != value}
        if not differing:
            return False
        if beat or differing - _SLOW[table]:
            return True
        if table == "resident":
            return load
        moved = abs(after.get("memory_used_bytes", 0) - before.get("memory_used_bytes", 0))
        return table == "device" and moved > MEMORY_STEP * after["memory_total_bytes"]
