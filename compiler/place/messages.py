"""The arithmetic in words: every diagnostic of this phase."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler import codes
from compiler.diagnostics import Diagnostic
from compiler.ir import ARENA_BYTES, Device, Fleet, Model
from compiler.place.arrange import Pin
from compiler.source import Source

_MOST_LISTED = 12


def need(model: Model, kind: str) -> str:
    """What one replica takes on a device of this kind, and how that comes about."""
    share = model.share_bytes(kind)
    each = f"{mib(share)} on each of {model.min_devices} devices" if model.min_devices > 1 else mib(share)
    if kind in model.measured:
        measured = model.measured[kind]
        how = "measured" if measured == share else f"measured {mib(measured)}, but weights and KV are reserved"
        return f"{each} ({how}; estimated {mib(model.estimated_share)})"
    per_token = model.manifest.kv_bytes_per_token
    parts = (
        f"weights {mib(model.weight_bytes)} + KV {mib(model.kv_bytes)} = "
        f"{per_token} B/token x {model.context} tokens x {model.max_sequences} sequences"
    )
    if model.min_devices > 1:
        parts = f"a part in {model.min_devices} of {parts};"
    return f"{each} ({parts} + arena {mib(ARENA_BYTES)})"


def no_device(model: Model, allowed: Sequence[Device], fleet: Fleet, models: Source) -> Diagnostic:
    """None is allowed, or no neuron has enough of them."""
    if allowed:
        path = (*model.path, "min_devices")
        message = f"no neuron has {model.min_devices} devices of one kind that `{model.id}` may use"
        hint: str | None = "a replica lies on devices of one neuron; lower min_devices, or allow more devices"
    else:
        path = (*model.path, "min_device_vram_mb" if model.min_device_bytes else "devices")
        message = f"no device may run `{model.id}`: none of those allowed has {mib(model.min_device_bytes)}"
        hint = "the largest has " + mib(max(d.memory_bytes for d in fleet.devices)) if fleet.devices else None
    return Diagnostic(codes.NO_DEVICE, "error", message, models.span(path), path, hint)


def none_where_pinned(model: Model, neuron: str, models: Source) -> Diagnostic:
    """It is pinned on a neuron where it may not run."""
    path = (*model.path, "pinned_on")
    message = f"`{model.id}` is pinned on {neuron}, where no device may run it"
    hint = "allow one there with devices or min_device_vram_mb, or pin it elsewhere"
    if model.min_devices > 1:
        message = f"`{model.id}` is pinned on {neuron}, which has no {model.min_devices} devices that may run it"
        hint = "lower min_devices, allow more devices there, or pin it elsewhere"
    return Diagnostic(codes.NO_DEVICE, "error", message, models.span(path), path, hint)


def too_large(model: Model, device: Device, neuron: str | None, models: Source) -> Diagnostic:
    """``device`` is the one that comes closest."""
    short = model.share_bytes(device.kind) - device.memory_bytes
    where = f"of {device.neuron}, where it is pinned" if neuron else "that it may use"
    largest = "largest" if model.min_devices == 1 else f"smallest of the {model.min_devices} largest"
    message = (
        f"`{model.id}` fits on no device{'' if model.min_devices == 1 else 's'} {where}: "
        f"it needs {need(model, device.kind)}; "
        f"the {largest}, {device.full_name}, has {mib(device.memory_bytes)}, {mib(short)} too little"
    )
    hint = _smaller(model, device.kind, device.memory_bytes)
    return Diagnostic(codes.TOO_LARGE, "error", message, models.span(model.path), model.path, hint)


def too_few_neurons(model: Model, kept: int, neurons: Sequence[str], models: Source) -> Diagnostic:
    """More replicas are to be kept loaded than there are neurons that hold one."""
    path = (*model.path, "replicas", "min")
    where = f": {listed(neurons)}" if neurons else ""
    message = (
        f"{kept} replicas of `{model.id}` are to be kept loaded, one per neuron, and it fits on {len(neurons)}{where}"
    )
    hint = f"at most replicas.min = {len(neurons)}; it needs {need(model, _kind(model, 'cuda'))}"
    return Diagnostic(codes.TOO_FEW_NEURONS, "error", message, models.span(path), path, hint)


def pinned_too_large(pins: Sequence[Pin], fleet: Fleet, models: Source) -> Diagnostic:
    """No arrangement of these holds them all."""
    return _pinned(
        codes.PINNED_TOO_LARGE,
        "the pinned models do not fit together",
        "unpin one, or give it less context or max_sequences",
        pins,
        fleet,
        models,
    )


def gave_up(pins: Sequence[Pin], fleet: Fleet, models: Source) -> Diagnostic:
    """Nobody knows whether they fit."""
    return _pinned(
        codes.SEARCH_GAVE_UP,
        "no arrangement of the pinned models was found, and not all were tried: they may fit or not",
        "say where some of them belong with pinned_on or devices, or unpin one",
        pins,
        fleet,
        models,
    )


def _pinned(code: str, what: str, hint: str, pins: Sequence[Pin], fleet: Fleet, models: Source) -> Diagnostic:
    all_devices = fleet.devices
    positions = dict.fromkeys(d for pin in pins for unit in pin.domain.units for d in unit.devices)
    total = sum(pin.least * pin.domain.count for pin in pins)
    parts = listed(
        [
            f"{pin.model.id}{f' on {pin.neuron}' if pin.neuron else ''} "
            f"{f'{pin.domain.count} x ' if pin.domain.count > 1 else ''}{mib(pin.least)}"
            for pin in pins
        ],
        " + ",
    )
    room = listed([f"{all_devices[d].full_name} {mib(all_devices[d].memory_bytes)}" for d in sorted(positions)])
    last = pins[-1].model
    kept = last.replicas.get("min", 0) > len(last.pinned_on) and not last.pinned
    path = (*last.path, *(("replicas", "min") if kept else ("pinned_on",) if pins[-1].neuron else ("pinned",)))
    message = f"{what}: {parts} = {mib(total)}; there is {room}"
    return Diagnostic(code, "error", message, models.span(path), path, hint)


def no_room(
    model: Model, left: Sequence[int], positions: Iterable[int], certain: bool, fleet: Fleet, models: Source
) -> Diagnostic:
    """The pinned models leave too little everywhere; ``certain``: in every arrangement of theirs."""
    all_devices = fleet.devices
    order = sorted(positions, key=lambda d: (-left[d], d))
    closest = order[min(model.min_devices, len(order)) - 1]
    kind = all_devices[closest].kind
    where = listed([f"{all_devices[d].full_name} {mib(left[d])} of {mib(all_devices[d].memory_bytes)}" for d in order])
    if certain:
        code, may = codes.NO_ROOM_BESIDE_PINNED, "could never be loaded"
    else:
        code = codes.SEARCH_GAVE_UP
        may = "finds no room beside the pinned models as they were arranged, and not every arrangement was tried"
    message = f"`{model.id}` {may}: it needs {need(model, kind)}; the pinned models leave {where}"
    hint = _smaller(model, kind, left[closest])
    return Diagnostic(code, "error", message, models.span(model.path), model.path, hint)


def reason(model: Model, devices: Sequence[Device], pinned: bool) -> str:
    """Why a placement is one."""
    rooms = " and ".join(f"{mib(d.memory_bytes)} on {d.name}" for d in devices)
    return f"{'pinned; ' if pinned else ''}needs {need(model, devices[0].kind)} of {rooms}"


def _smaller(model: Model, kind: str, room: int) -> str:
    """What would fit into ``room`` bytes on each device."""
    if kind in model.measured:
        return "less context or fewer max_sequences; the estimate counts for those until they are measured"
    per_token = model.manifest.kv_bytes_per_token
    cache = (room - ARENA_BYTES) * model.min_devices - model.weight_bytes
    sequences = cache // (per_token * model.context) if per_token else 0
    context = cache // (per_token * model.max_sequences) if per_token else 0
    if sequences >= 1:
        return f"max_sequences = {sequences} fits, or context = {context}"
    if context >= 1:
        return f"context = {context} fits, or a context of {cache // per_token} with max_sequences = 1"
    return (
        "weights and arena alone are too much: it takes a device with more memory, or a smaller or quantized artifact"
    )


def _kind(model: Model, otherwise: str) -> str:
    return next(iter(sorted(model.measured)), otherwise)


def listed(parts: Sequence[str], separator: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = len(parts) - _MOST_LISTED
    if more <= 1:
        return separator.join(parts)
    return separator.join(parts[:_MOST_LISTED]) + f"{separator}{more} more"


def mib(count: int) -> str:
    """Whole MiB where it is exact, else one decimal (bytes below 0.1)."""
    if count % (1 << 20) == 0:
        return f"{count >> 20} MiB"
    return f"{count / (1 << 20):.1f} MiB" if abs(count) >= 104858 else f"{count} B"
