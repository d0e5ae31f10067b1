"""Devices for everything that is pinned: quick orders first, then a search that is exact as far as its tries go.

Pins that share no device, however indirectly, are arranged apart from each other, so that one hard neuron does not make
a large fleet hard. An answer is one of three: found, impossible (all was tried, or a sum forbids it), or given up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from compiler.ir import Model
from compiler.place.domain import Domain, Ranking, Room, Unit

# One search ends after so many tries, all of one compile together after so many.
TRIES = 50_000
ALL_TRIES = 300_000
# Deeper searches than this would end in giving up anyway.
MOST_PINS = 200
MOST_SETS = 300

Place = tuple[int, ...]
Accept = Callable[[Room], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """One replica that must always be resident: on ``neuron``, or (None) on any in ``domain``."""

    model: Model
    domain: Domain
    neuron: str | None

    @property
    def least(self) -> int:
        """The smallest share on any device that it may use."""
        return min(self.model.share_bytes(kind) for kind in {u.kind for u in self.domain.units})


@dataclass(frozen=True, slots=True)
class Answer:
    """``places``: the devices of each pin. Without them, ``certain`` tells whether there can be none."""

    places: tuple[Place, ...] | None
    certain: bool = True


@dataclass(slots=True)
class Budget:
    """Tries that are left for the whole compile."""

    left: int = ALL_TRIES


def components(pins: Sequence[Pin]) -> list[list[int]]:
    """Positions of pins that share devices, in order."""
    parent = list(range(len(pins)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    owner: dict[int, int] = {}
    seen: dict[int, int] = {}  # a domain that many share is walked once
    for n, pin in enumerate(pins):
        first = seen.setdefault(id(pin.domain), n)
        if first != n:
            parent[root(n)] = root(first)
            continue
        for unit in pin.domain.units:
            for device in unit.devices:
                parent[root(n)] = root(owner.setdefault(device, n))
    groups: dict[int, list[int]] = {}
    for n in range(len(pins)):
        groups.setdefault(root(n), []).append(n)
    return list(groups.values())


def arrange(pins: Sequence[Pin], memory: Sequence[int], budget: Budget) -> Answer:
    """Places for all of these pins at once, on devices that hold nothing else."""
    orders = (
        sorted(range(len(pins)), key=lambda n: (-pins[n].model.need_bytes, n)),
        sorted(range(len(pins)), key=lambda n: (len(pins[n].domain.units), -pins[n].model.need_bytes, n)),
    )
    for order in orders:
        places = _roomiest(pins, order, list(memory))
        if places:
            return Answer(places)
    if _too_much(pins, memory):
        return Answer(None)
    for order in orders:
        places = _tightest(pins, order, list(memory), budget)
        if places:
            return Answer(places)
    return search(pins, memory, budget)


def take(free: Room, pins: Iterable[Pin], places: Iterable[Place], kinds: Sequence[str]) -> None:
    """Subtract what the pins hold."""
    for pin, place in zip(pins, places, strict=True):
        for device in place:
            free[device] -= pin.model.share_bytes(kinds[device])


def _too_much(pins: Sequence[Pin], memory: Sequence[int]) -> bool:
    """Whether sums alone forbid it: of all bytes, or of how many pins of a size and above there is place for."""
    devices = {d for pin in pins for unit in pin.domain.units for d in unit.devices}
    needs = sorted((pin.least, pin.domain.count) for pin in pins)
    if sum(least * count for least, count in needs) > sum(memory[d] for d in devices):
        return True
    sizes = sorted({least for least, _ in needs})[-64:]
    return any(
        sum(count for least, count in needs if least >= size) > sum(memory[d] // size for d in devices)
        for size in sizes
    )


def _roomiest(pins: Sequence[Pin], order: Sequence[int], free: Room) -> tuple[Place, ...] | None:
    """Each pin goes where most room is left, GPUs first."""
    rankings: dict[tuple[int, str], Ranking] = {}
    taken: dict[str, set[str]] = {}
    places: dict[int, Place] = {}
    for n in order:
        pin = pins[n]
        neurons = taken.setdefault(pin.model.id, set())
        unit = None
        for kind in ("cuda", "cpu"):
            key = (id(pin.domain), kind)
            if key not in rankings:
                rankings[key] = Ranking(pin.domain.count, free)
                for u in pin.domain.units:
                    if u.kind == kind:
                        rankings[key].add(u)
            share = pin.model.share_bytes(kind)
            unit = next(iter(rankings[key].best(1, neurons, _at_least(share))), None)
            if unit:
                break
        if unit is None:
            return None
        neurons.add(unit.neuron)
        places[n] = _hold(unit, pin, free)
    return tuple(places[n] for n in range(len(pins)))


def _at_least(share: int) -> Callable[[Unit, int], bool | None]:
    return lambda _unit, room: room >= share or None


def _hold(unit: Unit, pin: Pin, free: Room) -> Place:
    share = pin.model.share_bytes(unit.kind)
    place = unit.pick(free, share, pin.domain.count, free)
    for device in place:
        free[device] -= share
    return place


def _tightest(pins: Sequence[Pin], order: Sequence[int], free: Room, budget: Budget) -> tuple[Place, ...] | None:
    """Each pin goes where least room would be left, whatever the kind."""
    taken: dict[str, set[str]] = {}
    places: dict[int, Place] = {}
    for n in order:
        pin = pins[n]
        budget.left -= len(pin.domain.units) // 8
        if budget.left <= 0:
            return None
        neurons = taken.setdefault(pin.model.id, set())
        unit = min(
            (u for u in pin.domain.fits(pin.model, free) if u.neuron not in neurons),
            key=lambda u: sum(free[d] for d in u.devices),
            default=None,
        )
        if unit is None:
            return None
        neurons.add(unit.neuron)
        share = pin.model.share_bytes(unit.kind)
        fitting = sorted((d for d in unit.devices if free[d] >= share), key=lambda d: (free[d], d))
        places[n] = tuple(sorted(fitting[: pin.domain.count]))
        for device in places[n]:
            free[device] -= share
    return tuple(places[n] for n in range(len(pins)))


def search(
    pins: Sequence[Pin],
    memory: Sequence[int],
    budget: Budget,
    accept: Accept | None = None,
    marks: Sequence[object] | None = None,
) -> Answer:
    """Try every arrangement, equal ones once, until one fits and ``accept`` (given what is left) agrees.

    ``marks``: devices with equal marks are the same to ``accept``; None: no two are.
    """
    if len(pins) > MOST_PINS:
        return Answer(None, certain=False)
    return _Search(pins, list(memory), budget, accept, marks).run()


class _Search:
    def __init__(
        self,
        pins: Sequence[Pin],
        free: Room,
        budget: Budget,
        accept: Accept | None,
        marks: Sequence[object] | None,
    ) -> None:
        self._pins = pins
        self._free = free
        self._budget = budget
        self._accept = accept
        self._tries = min(TRIES, budget.left)
        self._whole = True  # no set of devices was left out
        self._order = sorted(range(len(pins)), key=lambda n: (-pins[n].model.need_bytes, pins[n].model.id, n))
        self._options = self._list_options()
        replicas = [pin.model.id for pin in pins]
        several = {model for model in replicas if replicas.count(model) > 1}
        self._class: list[object] = [
            (
                id(pin.domain),
                pin.model.share_bytes("cuda"),
                pin.model.share_bytes("cpu"),
                pin.model.id if pin.model.id in several else "",
            )
            for pin in pins
        ]
        simple = not several and all(pin.domain.count == 1 for pin in pins)
        users: dict[int, set[object]] = {}
        for pin, kind in zip(pins, self._class, strict=True):
            for unit in pin.domain.units:
                for device in unit.devices:
                    users.setdefault(device, set()).add(kind)
        # devices that the same pins may use, and that leave the same, are tried once
        self._alike: dict[int, object] = {
            d: ((frozenset(u), marks[d] if marks else None) if simple and (marks or not accept) else d)
            for d, u in users.items()
        }

    def run(self) -> Answer:
        """The first arrangement that is good."""
        chosen: list[tuple[int, Place]] = []
        taken: dict[str, set[str]] = {}
        found = self._from(chosen, taken)
        self._budget.left -= min(TRIES, self._budget.left) - max(self._tries, 0)
        if found:
            places = {n: place for n, (_, place) in zip(self._order, chosen, strict=True)}
            return Answer(tuple(places[n] for n in range(len(self._pins))))
        return Answer(None, certain=self._whole and self._tries > 0)

    def _list_options(self) -> list[list[tuple[Unit, Place]]]:
        made: dict[int, list[tuple[Unit, Place]]] = {}
        for pin in self._pins:
            if id(pin.domain) in made:
                continue
            options: list[tuple[Unit, Place]] = []
            for unit in pin.domain.units:
                sets = list(itertools.islice(itertools.combinations(unit.devices, pin.domain.count), MOST_SETS + 1))
                self._whole = self._whole and len(sets) <= MOST_SETS
                options += [(unit, place) for place in sets[:MOST_SETS]]
            made[id(pin.domain)] = options
        return [made[id(pin.domain)] for pin in self._pins]

    def _from(self, chosen: list[tuple[int, Place]], taken: dict[str, set[str]]) -> bool:
        depth = len(chosen)
        if depth == len(self._order):
            self._tries -= 8
            return self._accept is None or self._accept(self._free)
        n = self._order[depth]
        pin = self._pins[n]
        neurons = taken.setdefault(pin.model.id, set())
        same = depth > 0 and self._class[self._order[depth - 1]] == self._class[n]
        tried: set[tuple[object, ...]] = set()
        for position in range(chosen[-1][0] if same else 0, len(self._options[n])):
            if self._tries <= 0:
                return False
            self._tries -= 1
            unit, place = self._options[n][position]
            share = pin.model.share_bytes(unit.kind)
            if unit.neuron in neurons or any(self._free[d] < share for d in place):
                continue
            look = tuple((self._free[d], unit.kind, self._alike[d]) for d in place)
            if look in tried:
                continue
            tried.add(look)
            for d in place:
                self._free[d] -= share
            chosen.append((position, place))
            neurons.add(unit.neuron)
            if self._from(chosen, taken):
                return True
            neurons.discard(unit.neuron)
            chosen.pop()
            for d in place:
                self._free[d] += share
        return False
