"""What models may use, in numbers: devices are positions in ``Fleet.devices``, rooms are lists of bytes by position."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compiler.ir import Device, Model

Room = list[int]


@dataclass(frozen=True, slots=True)
class Unit:
    """Devices of one kind on one neuron: a replica lies on some of these, never on those of two units."""

    neuron: str
    kind: Literal["cpu", "cuda"]
    devices: tuple[int, ...]

    def room(self, free: Sequence[int], count: int) -> int:
        """What each of the ``count`` roomiest devices has at least."""
        if count == 1:
            return max(map(free.__getitem__, self.devices))
        return sorted(map(free.__getitem__, self.devices), reverse=True)[count - 1]

    def pick(self, free: Sequence[int], share: int, count: int, liked: Sequence[int]) -> tuple[int, ...]:
        """``count`` devices with at least ``share``, those with most in ``liked`` first; in their declared order."""
        fitting = [d for d in self.devices if free[d] >= share]
        return tuple(sorted(sorted(fitting, key=lambda d: (-liked[d], d))[:count]))


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Where models with the same wishes may live; GPUs first. Each unit has at least as many devices as a replica."""

    units: tuple[Unit, ...]
    count: int
    _by_neuron: dict[str, Domain] = field(default_factory=dict)

    def most(self, kind: str, free: Sequence[int]) -> int:
        """The share that would still fit on a unit of this kind; -1 without one."""
        return max((u.room(free, self.count) for u in self.units if u.kind == kind), default=-1)

    def fits(self, model: Model, free: Sequence[int]) -> list[Unit]:
        """The units that hold a replica."""
        return [u for u in self.units if u.room(free, self.count) >= model.share_bytes(u.kind)]

    def on(self, neuron: str) -> Domain:
        """The part on one neuron; the same object for all that ask."""
        if not self._by_neuron and self.units:
            units: dict[str, list[Unit]] = {}
            for unit in self.units:
                units.setdefault(unit.neuron, []).append(unit)
            self._by_neuron.update((name, Domain(tuple(mine), self.count)) for name, mine in units.items())
        return self._by_neuron.setdefault(neuron, Domain((), self.count))


class Domains:
    """One domain for all models that may use the same devices, made once."""

    def __init__(self, devices: tuple[Device, ...]) -> None:
        self._devices = devices
        self._sizes = sorted({d.memory_bytes for d in devices})
        self._position = {d.full_name: n for n, d in enumerate(devices)}
        self._made: dict[tuple[frozenset[str] | None, int, int], Domain] = {}
        self._largest: dict[tuple[int, str], int] = {}

    def of(self, model: Model) -> Domain:
        """Where the model may live."""
        # whatever the number says, it divides devices by one of their sizes
        least = bisect.bisect_left(self._sizes, model.min_device_bytes)
        key = (model.devices, least, model.min_devices)
        domain = self._made.get(key)
        if domain is None:
            domain = self._made[key] = Domain(self._units(model), model.min_devices)
        return domain

    def largest(self, domain: Domain, kind: str) -> int:
        """The share that fits on a unit of this kind when nothing else is there; -1 without one."""
        key = (id(domain), kind)
        if key not in self._largest:
            self._largest[key] = domain.most(kind, [d.memory_bytes for d in self._devices])
        return self._largest[key]

    def allowed(self, model: Model) -> list[Device]:
        """The devices that its declaration allows, whatever they hold."""
        return [self._devices[n] for n in self._allowed(model)]

    def _allowed(self, model: Model) -> list[int]:
        if model.devices is None:
            named: Collection[int] = range(len(self._devices))
        else:
            named = sorted(self._position[name] for name in model.devices)
        least = model.min_device_bytes
        return [n for n in named if self._devices[n].memory_bytes >= least]

    def _units(self, model: Model) -> tuple[Unit, ...]:
        found: dict[tuple[str, Literal["cpu", "cuda"]], list[int]] = {}
        for n in self._allowed(model):
            device = self._devices[n]
            found.setdefault((device.neuron, device.kind), []).append(n)
        units = [Unit(neuron, kind, tuple(ns)) for (neuron, kind), ns in found.items() if len(ns) >= model.min_devices]
        return tuple(sorted(units, key=lambda u: u.kind == "cpu"))


class Ranking:
    """Units of one kind, roomiest first. What ``free`` says may shrink meanwhile, but not grow.

    A heap whose entries are put right when they come up: no change has to be told to it.
    """

    def __init__(self, count: int, free: Sequence[int]) -> None:
        self._count = count
        self._free = free
        self._units: list[Unit] = []
        self._heap: list[tuple[int, int]] = []

    def add(self, unit: Unit) -> None:
        """One more to choose from."""
        heapq.heappush(self._heap, (-unit.room(self._free, self._count), len(self._units)))
        self._units.append(unit)

    def best(self, wanted: int, taken: Collection[str], fits: Callable[[Unit, int], bool | None]) -> list[Unit]:
        """Up to ``wanted`` units on neurons that are not ``taken``. ``fits`` (unit, room) is None: stop looking."""
        found: list[Unit] = []
        aside: list[tuple[int, int]] = []
        while self._heap and len(found) < wanted:
            entry = self._heap[0]
            unit = self._units[entry[1]]
            room = unit.room(self._free, self._count)
            if -entry[0] != room:
                heapq.heapreplace(self._heap, (-room, entry[1]))
                continue
            verdict = fits(unit, room)
            if verdict is None:
                break
            aside.append(heapq.heappop(self._heap))
            if verdict and unit.neuron not in taken:
                found.append(unit)
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return found
