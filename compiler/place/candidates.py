"""Where models may come to live beside what is pinned: the best few neurons of each, spread over the fleet.

One placement per model and neuron would be a million rows for a thousand of each, and no model needs that many choices.
So a model gets ``CANDIDATES`` neurons, those that it names itself, or as many as its ``replicas.max``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from compiler.ir import Model
from compiler.place.arrange import Place
from compiler.place.domain import Domain, Ranking, Room, Unit

CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """A model to find candidates for. ``pinned_on``: neurons that have it pinned, ``named``: that it asked for."""

    model: Model
    domain: Domain
    pinned_on: Sequence[str]
    named: frozenset[str]


@dataclass(slots=True)
class _Entering:
    """The units of one kind: those that hold the models seen so far are ranked, the others wait, roomiest first."""

    ranking: Ranking
    waiting: list[tuple[int, int, Unit]] = field(default_factory=list)


def spread(wishes: Sequence[Wish], left: Room) -> dict[str, list[tuple[Unit, Place]]]:
    """Unpinned candidates of each model, best first. ``left`` is what the pinned ones leave; it is what proves.

    A model counts as moved in with its first choice, in part with the others, so that the next one looks elsewhere.
    """
    expected = list(left)
    entering: dict[tuple[int, str], _Entering] = {}
    found: dict[str, list[tuple[Unit, Place]]] = {}
    order = sorted(range(len(wishes)), key=lambda n: (-wishes[n].model.need_bytes, n))
    for wish in (wishes[n] for n in order):
        most = wish.model.replicas.get("max")
        wanted = max((most or CANDIDATES) - len(wish.pinned_on), 0)
        mine: list[tuple[Unit, Place]] = []
        for unit in _choose(wish, wanted, left, expected, entering):
            share = wish.model.share_bytes(unit.kind)
            place = unit.pick(left, share, wish.domain.count, expected)
            first = not mine and not wish.pinned_on
            for device in place:
                expected[device] -= share if first else share // max(wanted, 1)
            mine.append((unit, place))
        found[wish.model.id] = mine
    return found


def _choose(
    wish: Wish, wanted: int, left: Room, expected: Room, entering: dict[tuple[int, str], _Entering]
) -> Iterable[Unit]:
    taken = set(wish.pinned_on)
    chosen: list[Unit] = []
    for kind in ("cuda", "cpu"):
        share = wish.model.share_bytes(kind)
        here = _admitted(wish.domain, kind, share, left, expected, entering)
        best = here.ranking.best(wanted - len(chosen), taken, _holds(left, wish.domain.count, share))
        chosen += best
        taken |= {unit.neuron for unit in best}
    if "max" not in wish.model.replicas and wish.named - taken:
        for unit in wish.domain.fits(wish.model, left):
            if unit.neuron in wish.named and unit.neuron not in taken:
                chosen.append(unit)
                taken.add(unit.neuron)
    return chosen


def _holds(left: Room, count: int, share: int) -> Callable[[Unit, int], bool | None]:
    return lambda unit, _room: unit.room(left, count) >= share


def _admitted(
    domain: Domain,
    kind: str,
    share: int,
    left: Room,
    expected: Room,
    entering: dict[tuple[int, str], _Entering],
) -> _Entering:
    here = entering.get((id(domain), kind))
    if here is None:
        here = entering[id(domain), kind] = _Entering(Ranking(domain.count, expected))
        units = [u for u in domain.units if u.kind == kind]
        here.waiting = [(-u.room(left, domain.count), n, u) for n, u in enumerate(units)]
        heapq.heapify(here.waiting)
    while here.waiting and -here.waiting[0][0] >= share:
        here.ranking.add(heapq.heappop(here.waiting)[2])
    return here


def named_neurons(model: Model, declared: Mapping[str, object]) -> frozenset[str]:
    """The neurons that a model's own ``devices`` spell out (``NEURON/DEVICE``); ``declared`` is its table."""
    devices = declared.get("devices")
    names = devices if model.devices is not None and isinstance(devices, list) else []
    return frozenset(name.split("/")[0] for name in names if isinstance(name, str) and "/" in name)
