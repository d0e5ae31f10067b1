"""The phase itself.

A replica takes weights + KV cache (every sequence at full context) in equal parts on its devices, and an arena on each;
what was measured on such a device replaces that. Pinned replicas (``pinned``, ``pinned_on``, ``replicas.min``) never
leave, so all of them must fit together; each other model must fit beside the pinned ones somewhere, because everything
else there can be evicted for it. The controller's own arithmetic (``cortexd.residency``) relies on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.diagnostics import Diagnostic
from compiler.ir import Device, Fleet, Model, PlacedFleet, Placement
from compiler.place import messages
from compiler.place.arrange import Budget, Pin, Place
from compiler.place.candidates import Wish, named_neurons, spread
from compiler.place.domain import Domain, Domains, Room
from compiler.place.layout import Layout, hardest
from compiler.source import Source


def place(fleet: Fleet, models: Source) -> tuple[PlacedFleet, list[Diagnostic]]:
    """Every placement that is proven, and an error with its arithmetic for each model that has none."""
    devices = fleet.devices
    domains = Domains(devices)
    memory = [d.memory_bytes for d in devices]
    found: list[Diagnostic] = []
    homes: dict[str, Domain] = {}
    pins: list[Pin] = []
    for model in fleet.models:
        problems = _alone(model, domains, memory, fleet, models)
        found += problems
        if not problems:
            homes[model.id] = domains.of(model)
            pins += _pins(model, domains)
    layout = Layout(pins, memory, [d.kind for d in devices], Budget())
    for group in layout.failed:
        mine = [pins[n] for n in group.pins]
        found.append((messages.pinned_too_large if group.certain else messages.gave_up)(mine, fleet, models))
    if layout.failed:
        return PlacedFleet(fleet, ()), found
    layout.make_room(hardest([m for m in fleet.models if m.id in homes and not kept(m)], homes))
    wishes = []
    for model in fleet.models:
        if model.id in homes:
            here = [devices[p[0]].neuron for p in layout.places_of(model)]
            wishes.append(Wish(model, homes[model.id], here, named_neurons(model, _table(model, models))))
    others = spread(wishes, layout.left)
    placements: list[Placement] = []
    for model in fleet.models:
        if model.id in homes:
            pinned = layout.places_of(model)
            free = [p for _, p in others[model.id]]
            placements += _placements(model, pinned, free, devices)
            if not pinned and not free:
                domain = homes[model.id]
                positions = [d for u in domain.units for d in u.devices]
                certain = layout.has_no_room(domain, model)
                found.append(messages.no_room(model, layout.left, positions, certain, fleet, models))
    return PlacedFleet(fleet, tuple(placements)), found


def _table(model: Model, models: Source) -> Mapping[str, Any]:
    """What the file says of a model."""
    entries: Any = models.data or {}
    for part in model.path:
        entries = entries[part]
    table: Mapping[str, Any] = entries
    return table


def _placements(
    model: Model, pinned: Sequence[Place], free: Sequence[Place], devices: Sequence[Device]
) -> list[Placement]:
    placements = []
    for rank, place_ in enumerate((*pinned, *free)):
        on = [devices[d] for d in place_]
        why = messages.reason(model, on, rank < len(pinned))
        share = model.share_bytes(on[0].kind)
        names = tuple(d.name for d in on)
        placements.append(Placement(model.id, on[0].neuron, names, rank, rank < len(pinned), why, share))
    return placements


def kept(model: Model) -> int:
    """How many replicas are always loaded."""
    return max(model.replicas.get("min", 0), len(model.pinned_on), 1 if model.pinned else 0)


def _alone(model: Model, domains: Domains, memory: Room, fleet: Fleet, models: Source) -> list[Diagnostic]:
    """What is wrong if nothing else is there."""
    domain = domains.of(model)
    if not domain.units:
        return [messages.no_device(model, domains.allowed(model), fleet, models)]
    problems = []
    for neuron in model.pinned_on or (None,):
        here = domain if neuron is None else domain.on(neuron)
        if not here.units:
            problems.append(messages.none_where_pinned(model, str(neuron), models))
        elif all(domains.largest(here, kind) < model.share_bytes(kind) for kind in ("cuda", "cpu")):
            closest = max(here.units, key=lambda u: u.room(memory, here.count) - model.share_bytes(u.kind))
            order = sorted(closest.devices, key=lambda d: (-memory[d], d))
            problems.append(messages.too_large(model, fleet.devices[order[here.count - 1]], neuron, models))
    replicas = kept(model)
    if not problems and replicas > max(len(model.pinned_on), 1):
        fitting = (u.neuron for u in domain.units if u.room(memory, domain.count) >= model.share_bytes(u.kind))
        neurons: dict[str, None] = {}
        while len(neurons) < replicas and (neuron := next(fitting, None)):
            neurons[neuron] = None
        if len(neurons) < replicas:
            problems.append(messages.too_few_neurons(model, replicas, list(neurons), models))
    return problems


def _pins(model: Model, domains: Domains) -> list[Pin]:
    """One for each named neuron, and as many more on other ones as are to be kept."""
    domain = domains.of(model)
    pins = [Pin(model, domain.on(name), name) for name in model.pinned_on]
    floating = kept(model) - len(pins)
    if floating > 0 and pins:
        domain = Domain(tuple(u for u in domain.units if u.neuron not in model.pinned_on), domain.count)
    return pins + [Pin(model, domain, None)] * max(floating, 0)
