"""The arithmetic: what is free on each device, and who would have to go to make room. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cortexd.residency.state import HOLDS_MEMORY, Desired, NeuronState, PlacementWish, ResidentState, WantedModel


@dataclass(frozen=True, slots=True)
class Room:
    """Whether a model finds room on a neuron.

    ``fits``: it does, once ``victims`` are gone (none: at once). Otherwise ``waits`` tells whether it would once busy
    residents are idle, and ``explanation`` has the sums.
    """

    fits: bool
    victims: tuple[str, ...]
    waits: bool
    explanation: str


def shares(model: WantedModel, wish: PlacementWish) -> dict[str, int]:
    """Bytes on each device: as measured there, else equal parts, rounded up."""
    if wish.share_bytes is not None:
        return dict.fromkeys(wish.devices, wish.share_bytes)
    parts = max(len(wish.devices), 1)
    return dict.fromkeys(wish.devices, -(-model.need_bytes // parts))


def resident_shares(desired: Desired, neuron: NeuronState) -> dict[str, dict[str, int]]:
    """Model -> device -> bytes, for all residents that hold memory and are declared there."""
    found: dict[str, dict[str, int]] = {}
    for resident in neuron.residents.values():
        model = desired.models.get(resident.model)
        wish = model.placement_on(neuron.name) if model else None
        if model and wish and resident.state in HOLDS_MEMORY:
            found[model.id] = shares(model, wish)
    return found


def free_bytes(desired: Desired, neuron: NeuronState, held: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Device -> bytes that nobody holds; may be negative. ``held`` comes from ``resident_shares``."""
    names = {name for (owner, name) in desired.device_bytes if owner == neuron.name} | set(neuron.devices)
    free: dict[str, int] = {}
    for name in names:
        observed = neuron.devices.get(name)
        declared = desired.device_bytes.get((neuron.name, name), 0)
        totals = [n for n in (declared, observed.total_bytes if observed else 0) if n > 0]
        accounted = sum(share.get(name, 0) for share in held.values())
        # A GPU may hold what others put there. A CPU device is a budget: the host's use says nothing about it.
        measured = observed.used_bytes if observed and observed.kind != "cpu" else 0
        free[name] = min(totals, default=0) - max(accounted, measured)
    return free


def eviction_order(desired: Desired, residents: Iterable[ResidentState]) -> list[ResidentState]:
    """Who goes first. ``lru``: the longest unused; ``priority``: the lower priority, then the longest unused."""
    by_priority = desired.eviction.strategy == "priority"

    def key(resident: ResidentState) -> tuple[float, float, str]:
        model = desired.models.get(resident.model)
        priority = model.priority if model else -1
        order = (priority, resident.last_used) if by_priority else (resident.last_used, priority)
        return (*order, resident.model)

    return sorted(residents, key=key)


def find_room(
    desired: Desired,
    neuron: NeuronState,
    model: WantedModel,
    wish: PlacementWish,
    *,
    may_evict: bool = True,
    protected: frozenset[str] = frozenset(),
    kept: frozenset[str] = frozenset(),
) -> Room:
    """Whether ``model`` finds room on the devices of ``wish``.

    Without ``may_evict`` only what is free counts; ``waits`` then tells whether the others could leave by themselves.
    Residents in ``protected`` count as busy; those in ``kept`` leave for a pinned model only.
    """
    held = resident_shares(desired, neuron)
    held.pop(model.id, None)
    free = free_bytes(desired, neuron, held)
    need = shares(model, wish)
    missing = [device for device in need if device not in free]
    if missing:
        return Room(False, (), False, f"{neuron.name} has no device {', '.join(missing)}")

    def short(gone: Iterable[str]) -> list[str]:
        gained = {device: sum(held[v].get(device, 0) for v in gone) for device in need}
        return [device for device in need if free[device] + gained[device] < need[device]]

    def may_leave(resident: str) -> bool:
        if _pinned(desired.models[resident], neuron.name) or (resident in kept and not wish.pinned):
            return False
        return not may_evict or wish.pinned or desired.models[resident].priority <= model.priority

    may_go = [r for r in neuron.residents.values() if r.model in held and may_leave(r.model)]
    victims = _victims(desired, may_go, held, short, protected) if may_evict else ()
    if not short(victims):
        return Room(True, victims, False, "")
    sums = "; ".join(f"{neuron.name}/{d} has {free[d]} bytes free, {model.id} needs {need[d]}" for d in short([]))
    # What nobody declared here is unloaded as soon as it is idle, and how much that frees is only known afterwards.
    undeclared = [r.model for r in neuron.residents.values() if r.state in HOLDS_MEMORY and r.model not in held]
    if undeclared or not short([r.model for r in may_go]):
        names = ", ".join(sorted([r.model for r in may_go] + undeclared))
        nobody = f'on_pressure = "{model.on_pressure}" displaces nobody'
        why = "those that could leave are busy" if may_evict else nobody
        return Room(False, (), True, f"{sums}; {names} would have to leave, and {why}")
    return Room(False, (), False, f"{sums}, and the residents there are pinned, of higher priority or not enough")


def _victims(
    desired: Desired,
    may_go: Iterable[ResidentState],
    held: Mapping[str, Mapping[str, int]],
    short: Callable[[Iterable[str]], list[str]],
    protected: frozenset[str],
) -> tuple[str, ...]:
    """The first ones in the order of eviction that are enough; too few when nobody else is idle."""
    victims: list[str] = []
    for resident in eviction_order(desired, [r for r in may_go if r.idle and r.model not in protected]):
        lacking = short(victims)
        if not lacking:
            break
        if any(held[resident.model].get(device, 0) for device in lacking):
            victims.append(resident.model)
    for victim in tuple(victims):  # a later, larger one may have made an earlier one unnecessary
        rest = [v for v in victims if v != victim]
        if not short(rest):
            victims = rest
    return tuple(victims)


def _pinned(model: WantedModel, neuron: str) -> bool:
    wish = model.placement_on(neuron)
    return wish is not None and wish.pinned
