"""Phase 4: which model may live on which device, with the proof that it fits. Pure.

A replica takes weights + KV cache (every sequence at full context) + arena on one device. Pinned replicas never leave,
so all of them must fit together; each other model must fit beside the pinned ones of at least one device, because
everything else there can be evicted for it. The controller's own arithmetic (``cortexd.residency``) relies on that.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler import codes
from compiler.diagnostics import Diagnostic
from compiler.ir import ARENA_BYTES, Device, Fleet, Model, PlacedFleet, Placement
from compiler.source import Source

# The search for an arrangement of the pinned replicas is exact up to this many tries.
_TRIES = 50_000


@dataclass(frozen=True, slots=True)
class _Pin:
    """One replica that must always be resident: on ``neuron``, or (None) on any."""

    model: Model
    options: tuple[Device, ...]
    neuron: str | None


def place(fleet: Fleet, models: Source) -> tuple[PlacedFleet, list[Diagnostic]]:
    """Every placement that is proven, and an error with its arithmetic for each model that has none."""
    found: list[Diagnostic] = []
    eligible: dict[str, tuple[Device, ...]] = {}
    pins: list[_Pin] = []
    for model in fleet.models:
        fitting, problems = _alone(model, fleet, models)
        found += problems
        if problems:
            continue
        eligible[model.id] = fitting
        if model.pinned:
            pins += _pins(model, fitting)
    arrangement = _arrange(pins)
    if arrangement is None:
        found.append(_pinned_too_large(pins, models))
        return PlacedFleet(fleet, ()), found
    left = {d.full_name: d.memory_bytes for d in fleet.devices}
    for pin, device in arrangement:
        left[device.full_name] -= pin.model.need_bytes
    placements: list[Placement] = []
    for model in fleet.models:
        if model.id not in eligible:
            continue
        mine = [(device, True) for pin, device in arrangement if pin.model is model]
        mine += _unpinned(model, eligible[model.id], {d.neuron for d, _ in mine}, left)
        if not mine:
            found.append(_no_room(model, eligible[model.id], left, models))
        for rank, (device, pinned) in enumerate(mine):
            reason = (
                f"{'pinned; ' if pinned else ''}needs {_sum(model)} of {_mib(device.memory_bytes)} on {device.name}"
            )
            placements.append(Placement(model.id, device.neuron, (device.name,), rank, pinned, reason))
    return PlacedFleet(fleet, tuple(placements)), found


def _alone(model: Model, fleet: Fleet, models: Source) -> tuple[tuple[Device, ...], list[Diagnostic]]:
    """The devices where it fits if nothing else is there."""
    allowed = [
        d
        for d in fleet.devices
        if (model.devices is None or d.full_name in model.devices) and d.memory_bytes >= model.min_device_bytes
    ]
    fitting = tuple(d for d in allowed if d.memory_bytes >= model.need_bytes)
    if not allowed:
        path = (*model.path, "min_device_vram_mb" if model.min_device_bytes else "devices")
        message = f"no device may run `{model.id}`: none of those allowed has {_mib(model.min_device_bytes)}"
        hint = "the largest has " + _mib(max(d.memory_bytes for d in fleet.devices)) if fleet.devices else None
        return (), [Diagnostic(codes.NO_DEVICE, "error", message, models.span(path), path, hint)]
    problems = []
    for neuron in model.pinned_on or (None,):
        here = [d for d in allowed if neuron in (None, d.neuron)]
        if not here:
            path = (*model.path, "pinned_on")
            message = f"`{model.id}` is pinned on {neuron}, where no device may run it"
            hint = "allow one there with devices or min_device_vram_mb, or pin it elsewhere"
            problems.append(Diagnostic(codes.NO_DEVICE, "error", message, models.span(path), path, hint))
        elif not any(d in fitting for d in here):
            problems.append(_too_large(model, max(here, key=lambda d: d.memory_bytes), models))
    return fitting, problems


def _pins(model: Model, fitting: tuple[Device, ...]) -> list[_Pin]:
    if not model.pinned_on:
        return [_Pin(model, fitting, None)]
    return [_Pin(model, tuple(d for d in fitting if d.neuron == name), name) for name in model.pinned_on]


def _arrange(pins: list[_Pin]) -> list[tuple[_Pin, Device]] | None:
    """A device for each pin so that every device holds what it got; None if there is none. Largest pins go first."""
    order = sorted(range(len(pins)), key=lambda n: (-pins[n].model.need_bytes, n))
    free = {d.full_name: d.memory_bytes for pin in pins for d in pin.options}
    chosen: dict[int, Device] = {}
    tries = 0

    def search(depth: int) -> bool:
        nonlocal tries
        if depth == len(order):
            return True
        pin = pins[order[depth]]
        need = pin.model.need_bytes
        for device in sorted(pin.options, key=lambda d: (d.kind == "cpu", -free[d.full_name])):
            tries += 1
            if tries > _TRIES or free[device.full_name] < need:
                continue
            free[device.full_name] -= need
            chosen[order[depth]] = device
            if search(depth + 1):
                return True
            free[device.full_name] += need
        return False

    if not search(0):
        return None
    return [(pin, chosen[n]) for n, pin in enumerate(pins)]


def _unpinned(
    model: Model, fitting: tuple[Device, ...], taken: set[str], left: dict[str, int]
) -> list[tuple[Device, bool]]:
    """One device of each further neuron: the one that the pinned models leave most of; GPUs before CPUs."""
    best: dict[str, Device] = {}
    for device in fitting:
        if device.neuron in taken or left[device.full_name] < model.need_bytes:
            continue
        other = best.get(device.neuron)
        if other is None or _preference(device, left) < _preference(other, left):
            best[device.neuron] = device
    return [(device, False) for device in sorted(best.values(), key=lambda d: _preference(d, left))]


def _preference(device: Device, left: dict[str, int]) -> tuple[bool, int]:
    return (device.kind == "cpu", -left[device.full_name])


def _too_large(model: Model, device: Device, models: Source) -> Diagnostic:
    short = model.need_bytes - device.memory_bytes
    where = f"of {device.neuron}, where it is pinned" if model.pinned_on else "that it may use"
    message = (
        f"`{model.id}` fits on no device {where}: it needs {_sum(model)}; "
        f"the largest, {device.full_name}, has {_mib(device.memory_bytes)}, {_mib(short)} too little"
    )
    return Diagnostic(
        codes.TOO_LARGE, "error", message, models.span(model.path), model.path, _smaller(model, device.memory_bytes)
    )


def _smaller(model: Model, room: int) -> str:
    """What would fit into ``room`` bytes."""
    per_token = model.manifest.kv_bytes_per_token
    cache = room - model.weight_bytes - ARENA_BYTES
    sequences = cache // (per_token * model.context) if per_token else 0
    context = cache // (per_token * model.max_sequences) if per_token else 0
    if sequences >= 1:
        return f"max_sequences = {sequences} fits, or context = {context}"
    if context >= 1:
        return f"context = {context} fits, or a context of {cache // per_token} with max_sequences = 1"
    return (
        "weights and arena alone are too much: it takes a device with more memory, or a smaller or quantized artifact"
    )


def _pinned_too_large(pins: list[_Pin], models: Source) -> Diagnostic:
    devices = {d.full_name: d for pin in pins for d in pin.options}
    total = sum(pin.model.need_bytes for pin in pins)
    parts = " + ".join(
        f"{pin.model.id}{f' on {pin.neuron}' if pin.neuron else ''} {_mib(pin.model.need_bytes)}" for pin in pins
    )
    room = ", ".join(f"{name} {_mib(d.memory_bytes)}" for name, d in devices.items())
    path = (*pins[-1].model.path, "pinned_on" if pins[-1].neuron else "pinned")
    message = f"the pinned models do not fit together: {parts} = {_mib(total)}; there is {room}"
    hint = "unpin one, or give it less context or max_sequences"
    return Diagnostic(codes.PINNED_TOO_LARGE, "error", message, models.span(path), path, hint)


def _no_room(model: Model, fitting: tuple[Device, ...], left: dict[str, int], models: Source) -> Diagnostic:
    room = max(left[d.full_name] for d in fitting)
    where = ", ".join(f"{d.full_name} {_mib(left[d.full_name])} of {_mib(d.memory_bytes)}" for d in fitting)
    message = f"`{model.id}` could never be loaded: it needs {_sum(model)}; the pinned models leave {where}"
    path = model.path
    return Diagnostic(codes.NO_ROOM_BESIDE_PINNED, "error", message, models.span(path), path, _smaller(model, room))


def _sum(model: Model) -> str:
    per_token = model.manifest.kv_bytes_per_token
    return (
        f"{_mib(model.need_bytes)} (weights {_mib(model.weight_bytes)} + KV {_mib(model.kv_bytes)} = "
        f"{per_token} B/token x {model.context} tokens x {model.max_sequences} sequences + arena {_mib(ARENA_BYTES)})"
    )


def _mib(count: int) -> str:
    """Whole MiB where it is exact, else one decimal (bytes below 0.1)."""
    if count % (1 << 20) == 0:
        return f"{count >> 20} MiB"
    return f"{count / (1 << 20):.1f} MiB" if count >= 104858 else f"{count} B"
