"""fleet.lock: reality as it was found, so that compile needs no network. Read, compared with the fleet, written. Pure.

It never says what the fleet shall be: it forbids budgets that no device has, and lets measured bytes replace estimates.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath
from compiler.ir import Device, Fleet, Model
from compiler.place.messages import listed, mib
from compiler.schema.lock import LockFile
from compiler.source import Source
from compiler.validate import check

LOCK_NAME = "fleet.lock"
VERSION = 1
_HEAD = """\
# What the neurons said about themselves, and what models took there: written by `cortexd discover` and
# `cortexd fit --write`, read by `cortexd compile`. Keep it beside fleet.toml, in version control; do not edit it.
"""


@dataclass(frozen=True, slots=True, order=True)
class LockedDevice:
    """A device as it is; ``memory_bytes`` is all that it has."""

    name: str
    kind: str
    index: int
    memory_bytes: int
    product: str | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class LockedNeuron:
    """A neuron as it answered."""

    name: str
    package_version: str | None
    onnxruntime: str | None
    providers: tuple[str, ...]
    driver: str | None
    devices: tuple[LockedDevice, ...]


@dataclass(frozen=True, slots=True, order=True)
class Measured:
    """What a replica of an artifact in one shape took on each of its ``devices`` of a ``kind``."""

    manifest_sha256: str
    context: int
    max_sequences: int
    kind: str
    devices: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Lock:
    """The whole file."""

    neurons: tuple[LockedNeuron, ...] = ()
    measured: tuple[Measured, ...] = ()


def read_lock(source: Source) -> tuple[Lock | None, list[Diagnostic]]:
    """The lock, or what is wrong with it."""
    bad, found = check(source, LockFile)
    if source.data is None or bad or found:
        return None, found
    file = LockFile.model_validate(source.data)
    neurons = tuple(
        LockedNeuron(
            n.name,
            n.package_version,
            n.onnxruntime,
            tuple(n.providers),
            n.driver,
            tuple(LockedDevice(**d.model_dump()) for d in n.devices),
        )
        for n in file.neurons
    )
    return Lock(neurons, tuple(Measured(**m.model_dump()) for m in file.measured)), []


def render_lock(lock: Lock) -> str:
    """The file: sorted, without a time, so that the same answers give the same bytes."""
    lines = [_HEAD, f"version = {VERSION}"]
    for neuron in sorted(lock.neurons, key=lambda n: n.name):
        lines += ["", "[[neurons]]", *_pairs(neuron, without="devices")]
        for device in sorted(neuron.devices, key=lambda d: (d.kind, d.index, d.name)):
            lines += ["", "[[neurons.devices]]", *_pairs(device)]
    for entry in sorted(lock.measured):
        lines += ["", "[[measured]]", *_pairs(entry)]
    return "\n".join(lines) + "\n"


def _pairs(entry: LockedNeuron | LockedDevice | Measured, without: str = "") -> Iterable[str]:
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name != without and value is not None:
            yield f"{field.name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return str(value) if isinstance(value, int) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def with_measured(fleet: Fleet, lock: Lock) -> Fleet:
    """The fleet whose models take what was measured for their artifact and shape."""
    known: dict[tuple[str, int, int, int], dict[str, int]] = {}
    for m in lock.measured:
        shape = known.setdefault((m.manifest_sha256, m.context, m.max_sequences, m.devices), {})
        shape[m.kind] = max(m.bytes, shape.get(m.kind, 0))

    def apply(model: Model) -> Model:
        measured = known.get((model.manifest_sha256, model.context, model.max_sequences, model.min_devices))
        return dataclasses.replace(model, measured=measured) if measured else model

    return dataclasses.replace(fleet, models=tuple(apply(m) for m in fleet.models)) if known else fleet


def compare(fleet: Fleet, lock: Lock | None, source: Source) -> list[Diagnostic]:
    """What the fleet declares and its neurons do not have. ``source``: the fleet's file; no lock: never discovered."""
    places = _places(source)
    if lock is None:
        return _never_discovered(fleet, places, source)
    found: list[Diagnostic] = []
    locked = {n.name: n for n in lock.neurons}
    pools: dict[tuple[str, str, int], list[tuple[Device, int]]] = {}
    for neuron in fleet.neurons:
        entry = locked.get(neuron.name)
        if entry is None:
            path = places.get((neuron.name, None), ("neurons",))
            message = f"neuron `{neuron.name}` was not discovered: the memory of its devices is as declared"
            found.append(_finding(codes.NOT_DISCOVERED, "warning", message, source, path, _ASK))
            continue
        for device in neuron.devices:
            path = places.get((neuron.name, device.name), ("neurons",))
            real = _same(device, entry)
            if isinstance(real, LockedDevice):
                # what runs on CPUs shares the memory of their host, whatever the devices are called
                index = device.index if device.kind == "cuda" else -1
                pools.setdefault((neuron.host, device.kind, index), []).append((device, real.memory_bytes))
            elif real:
                message = f"`{device.full_name}` is declared as {device.kind}, and was discovered as {real}"
                hint = "correct the kind, or run `cortexd discover` again"
                found.append(_finding(codes.OTHER_KIND, "error", message, source, (*path, "kind"), hint))
            else:
                message = f"device `{device.full_name}` was not discovered: its memory is as declared"
                found.append(_finding(codes.NOT_DISCOVERED, "warning", message, source, path, _ASK))
    for (host, _, _), members in pools.items():
        declared, real_bytes = sum(d.memory_bytes for d, _ in members), min(size for _, size in members)
        if declared > real_bytes:
            last = members[-1][0]
            parts = listed([f"{d.full_name} {mib(d.memory_bytes)}" for d, _ in members], " + ")
            total = f" = {mib(declared)}" if len(members) > 1 else ""
            owner = f"host {host}" if last.kind == "cpu" else "it" if len(members) == 1 else "that GPU"
            message = f"more memory is declared than there is: {parts}{total}; {owner} has {mib(real_bytes)}"
            hint = f"at most memory_mb = {real_bytes >> 20}" + (" for all of them" if len(members) > 1 else "")
            path = (*places.get((last.neuron, last.name), ("neurons",)), "memory_mb")
            found.append(_finding(codes.MORE_THAN_REAL, "error", message, source, path, hint))
    return found


_ASK = "`cortexd discover` asks the neurons that run"


def _finding(code: str, severity: str, message: str, source: Source, path: KeyPath, hint: str) -> Diagnostic:
    if severity == "error":
        return Diagnostic(code, "error", message, source.span(path), path, hint)
    return Diagnostic(code, "warning", message, source.span(path), path, hint)


def _never_discovered(
    fleet: Fleet, places: Mapping[tuple[str, str | None], KeyPath], source: Source
) -> list[Diagnostic]:
    """A warning for GPUs only: the memory of a CPU device is a budget that somebody chose."""
    gpus = [d for d in fleet.devices if d.kind == "cuda"]
    if not gpus:
        return []
    path = places.get((gpus[0].neuron, gpus[0].name), ("neurons",))
    message = f"there is no fleet.lock: the memory of {listed([d.full_name for d in gpus])} is as declared"
    return [_finding(codes.NOT_DISCOVERED, "warning", message, source, path, _ASK)]


def _same(device: Device, neuron: LockedNeuron) -> LockedDevice | str | None:
    """The device as it was found; only its kind (text) if it has another one; None if nobody saw it."""
    physical = next((d for d in neuron.devices if (d.kind, d.index) == (device.kind, device.index)), None)
    named = next((d for d in neuron.devices if d.name == device.name), None)
    if named is not None and named.kind != device.kind:
        return named.kind
    return physical or named


def _places(source: Source) -> dict[tuple[str, str | None], KeyPath]:
    """(neuron, device) -> where it is declared; (neuron, None) for the neuron."""
    found: dict[tuple[str, str | None], KeyPath] = {}
    for n, neuron in _named((source.data or {}).get("neurons")):
        found.setdefault((neuron["name"], None), ("neurons", n))
        for m, device in _named(neuron.get("devices")):
            found.setdefault((neuron["name"], device["name"]), ("neurons", n, "devices", m))
    return found


def _named(entries: object) -> Iterable[tuple[int, Mapping[str, Any]]]:
    """The tables of a list that have a name, whatever else stands there."""
    for n, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield n, entry
