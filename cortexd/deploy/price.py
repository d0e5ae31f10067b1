"""What a change costs: units that restart, models that move, streams that it would touch. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.rows import Tables

_NEURON_UNIT = re.compile(r"neuron@(.+)\.service\Z")
GATEWAY_UNIT = "cortexd-gateway.service"


@dataclass(frozen=True, slots=True)
class UnitChange:
    """``verb``: start, restart or stop."""

    host: str
    unit: str
    verb: str

    @property
    def neuron(self) -> str | None:
        """The neuron that it runs, None for another unit."""
        found = _NEURON_UNIT.match(self.unit)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class ModelMove:
    """A resident that is loaded anew (reload) or leaves its neuron (unload), or a pinned model that comes (load)."""

    model: str
    neuron: str
    verb: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class Price:
    """``streams``: requests in flight that are drained first. ``downtime``: none, or drain."""

    units: tuple[UnitChange, ...]
    models: tuple[ModelMove, ...]
    streams: int
    downtime: str


Hashes = Mapping[str, Mapping[str, str]]  # host -> unit -> hash


def price_of(before: Tables, after: Tables, running: Hashes, wanted: Hashes, residents: Sequence[Any]) -> Price:
    """The price of the way from ``before`` to ``after``.

    ``running`` and ``wanted``: units of both; ``residents``: rows of the table ``resident``, as they are now.
    """
    units = _units(running, wanted)
    restarting = {change.neuron for change in units if change.verb == "restart"}
    stopping = {change.neuron for change in units if change.verb == "stop"}
    was, will = _placed(before), _placed(after)
    moves = []
    for resident in residents:
        neuron, model = resident["neuron"], resident["model"]
        if neuron in stopping or (neuron, model) not in will:
            moves.append(ModelMove(model, neuron, "unload", resident["in_flight"]))
        elif neuron in restarting or was.get((neuron, model)) != will[neuron, model]:
            moves.append(ModelMove(model, neuron, "reload", resident["in_flight"]))
    here = {(resident["neuron"], resident["model"]) for resident in residents}
    pinned = {(row["neuron"], row["model"]) for row in before["placement"] if row["pinned"]}
    moves += [
        ModelMove(row["model"], row["neuron"], "load", 0)
        for row in after["placement"]
        if row["pinned"] and (row["neuron"], row["model"]) not in here | pinned
    ]
    gateway = any(change.unit == GATEWAY_UNIT and change.verb != "start" for change in units)
    every = sum(resident["in_flight"] for resident in residents)
    streams = every if gateway else sum(move.in_flight for move in moves)
    drains = gateway or any(move.verb != "load" for move in moves)
    return Price(units, tuple(sorted(moves, key=_order)), streams, "drain" if drains else "none")


def _order(move: ModelMove) -> tuple[str, str]:
    return move.neuron, move.model


def _units(running: Hashes, wanted: Hashes) -> tuple[UnitChange, ...]:
    found = []
    for host in sorted(running.keys() | wanted.keys()):
        was, will = running.get(host, {}), wanted.get(host, {})
        for unit in [*will, *(name for name in was if name not in will)]:
            if unit not in was:
                found.append(UnitChange(host, unit, "start"))
            elif unit not in will:
                found.append(UnitChange(host, unit, "stop"))
            elif was[unit] != will[unit]:
                found.append(UnitChange(host, unit, "restart"))
    return tuple(found)


def _placed(tables: Tables) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(neuron, model) -> what would have to be equal for a resident to stay as it is."""
    shape = ("artifact", "manifest_sha256", "context", "max_sequences")
    models = {model["id"]: tuple(model[name] for name in shape) for model in tables["model"]}
    return {(row["neuron"], row["model"]): (row["devices"], *models[row["model"]]) for row in tables["placement"]}
