"""What is pinned, arranged; and arranged anew where that makes room for what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.ir import Model
from compiler.place.arrange import Accept, Budget, Pin, Place, arrange, components, search, take
from compiler.place.domain import Domain, Room


def fits_alone(model: Model, domain: Domain, free: Room) -> bool:
    """Whether a replica finds room in ``domain`` where so much is free."""
    return any(domain.most(kind, free) >= model.share_bytes(kind) for kind in ("cuda", "cpu"))


def hardest(models: Sequence[Model], homes: Mapping[str, Domain]) -> list[tuple[Domain, Model]]:
    """Of the models with the same wishes only those that no other one outdoes: if they find room, all do."""
    found: dict[int, list[tuple[Domain, Model]]] = {}
    for model in sorted(models, key=lambda m: -m.need_bytes):
        domain = homes[model.id]
        mine = found.setdefault(id(domain), [])
        if not any(all(o.share_bytes(k) >= model.share_bytes(k) for k in ("cuda", "cpu")) for _, o in mine):
            mine.append((domain, model))
    return [entry for entries in found.values() for entry in entries]


@dataclass(slots=True)
class Group:
    """Pins that share devices, by position."""

    pins: list[int]
    certain: bool = True


class Layout:
    """Where each pin went, and what that leaves."""

    def __init__(self, pins: Sequence[Pin], memory: Room, kinds: Sequence[str], budget: Budget) -> None:
        self._pins = pins
        self._memory = memory
        self._kinds = kinds
        self._budget = budget
        self._groups = [Group(numbers) for numbers in components(pins)]
        self._places: dict[int, Place] = {}
        self.failed: list[Group] = []
        for group in self._groups:
            self.failed += self._first(group)
        self.left = self._rest() if not self.failed else list(memory)

    def places_of(self, model: Model) -> list[Place]:
        """The devices of each of its pinned replicas."""
        return self._of.get(model.id, [])

    def make_room(self, wanted: Sequence[tuple[Domain, Model]]) -> None:
        """Arrange the pins so that as many as possible of these find room beside them."""
        lacking = [entry for entry in wanted if not self._has_room(entry, self.left)]
        for group in self._groups if lacking else ():
            if not lacking:
                break
            base = self._rest(without=group)
            reach = self._reach(group)
            ours = [entry for entry in lacking if self._touches(entry[0], reach)]
            settled = [entry for entry in wanted if entry not in lacking]
            # all of them at once if that is possible, else whichever
            for goal in ([ours] if len(ours) > 1 else []) + [[entry] for entry in ours]:
                if all(entry not in lacking for entry in goal):
                    continue
                need = settled + goal
                if self._again(group, base, self._accepts(need), self._marks(need)):
                    lacking = [entry for entry in lacking if not self._has_room(entry, self.left)]
                    settled = [entry for entry in wanted if entry not in lacking]

    def has_no_room(self, domain: Domain, model: Model) -> bool:
        """Whether every arrangement was tried without finding room for this one model."""
        entry = [(domain, model)]
        for group in self._groups:
            if self._touches(domain, self._reach(group)):
                mine = [self._pins[n] for n in group.pins]
                base = self._rest(without=group)
                answer = search(mine, base, self._budget, self._accepts(entry), self._marks(entry))
                if answer.places is not None or not answer.certain:
                    return False
        return True

    def _first(self, group: Group) -> list[Group]:
        """Places for a group, or what of it has none: the pins of one neuron if those alone do not fit there."""
        mine = [self._pins[n] for n in group.pins]
        answer = arrange(mine, self._memory, self._budget)
        if answer.places is not None:
            self._places |= zip(group.pins, answer.places, strict=True)
            return []
        by_neuron: dict[str, list[int]] = {}
        for n in group.pins:
            if neuron := self._pins[n].neuron:
                by_neuron.setdefault(neuron, []).append(n)
        guilty = []
        for numbers in by_neuron.values():
            alone = arrange([self._pins[n] for n in numbers], self._memory, self._budget)
            if alone.places is None and alone.certain:
                guilty.append(Group(numbers))
        return guilty or [Group(group.pins, answer.certain)]

    def _again(self, group: Group, base: Room, accept: Accept, marks: Sequence[object] | None) -> bool:
        answer = search([self._pins[n] for n in group.pins], base, self._budget, accept, marks)
        if answer.places is None:
            return False
        self._places |= zip(group.pins, answer.places, strict=True)
        self.left = self._rest()
        return True

    def _rest(self, without: Group | None = None) -> Room:
        left = list(self._memory)
        numbers = [n for group in self._groups if group is not without for n in group.pins]
        take(left, [self._pins[n] for n in numbers], [self._places[n] for n in numbers], self._kinds)
        if without is None:
            self._of: dict[str, list[Place]] = {}
            for n, pin in enumerate(self._pins):
                self._of.setdefault(pin.model.id, []).append(self._places[n])
        return left

    def _reach(self, group: Group) -> set[int]:
        return {d for n in group.pins for unit in self._pins[n].domain.units for d in unit.devices}

    @staticmethod
    def _touches(domain: Domain, reach: set[int]) -> bool:
        return any(d in reach for unit in domain.units for d in unit.devices)

    @staticmethod
    def _has_room(entry: tuple[Domain, Model], free: Room) -> bool:
        return fits_alone(entry[1], entry[0], free)

    def _accepts(self, entries: Sequence[tuple[Domain, Model]]) -> Accept:
        return lambda free: all(self._has_room(entry, free) for entry in entries)

    def _marks(self, entries: Sequence[tuple[Domain, Model]]) -> list[object] | None:
        """What tells devices apart for these entries; None where a replica takes several."""
        if any(domain.count > 1 for domain, _ in entries):
            return None
        members = [{d for unit in domain.units for d in unit.devices} for domain, _ in entries]
        return [tuple(d in mine for mine in members) for d in range(len(self._memory))]
