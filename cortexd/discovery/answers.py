"""The three answers of a neuron as one value, and values as ``fleet.lock``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compiler.lock import Lock, LockedDevice, LockedNeuron, Measured


class AnswerError(Exception):
    """A neuron answered something that cannot be used; the message says what."""


@dataclass(frozen=True, slots=True)
class Found:
    """A neuron as it answered. ``health`` and ``notes`` are of this moment and stand in no file."""

    neuron: LockedNeuron
    health: str
    notes: tuple[str, ...]


def read_answers(name: str, discovery: Any, version: Any, health: Any) -> Found:
    """Raises AnswerError for what is no neuron's answer, or another neuron's."""
    if not all(isinstance(answer, dict) for answer in (discovery, version, health)):
        raise AnswerError("/discovery, /version or /health did not answer a JSON object; is that a neuron?")
    said = discovery.get("neuron")
    if said is not None and said != name:
        raise AnswerError(f"the neuron at this address says that it is `{str(said)[:63]}`; correct endpoint or name")
    runtime = discovery.get("onnxruntime")
    runtime = runtime if isinstance(runtime, dict) else {}
    try:
        devices, notes = _devices(discovery)
        neuron = LockedNeuron(
            name=name,
            package_version=_text(version.get("package_version")),
            onnxruntime=_text(runtime.get("version")),
            providers=tuple(sorted(str(p) for p in runtime.get("providers") or ())),
            driver=_text(discovery.get("driver")),
            devices=tuple(devices),
        )
    except (KeyError, TypeError, ValueError) as e:
        raise AnswerError(f"/discovery has an unexpected form: {type(e).__name__}: {e}") from None
    reasons = [str(r) for r in health.get("reasons") or ()] if isinstance(health.get("reasons"), list) else []
    return Found(neuron, str(health.get("status", "unknown")), (*notes, *reasons))


def _devices(discovery: Mapping[str, Any]) -> tuple[list[LockedDevice], list[str]]:
    """Declared devices, then GPUs that nobody declared. One whose memory is unknown is left out, with a note."""
    found: list[LockedDevice] = []
    notes: list[str] = []
    for entry in discovery["devices"]:
        name, kind, index = str(entry["name"]), str(entry["kind"]), int(entry["index"])
        if kind not in ("cpu", "cuda"):
            raise ValueError(f"device {name} is of kind {kind[:20]!r}")
        size = entry.get("memory_bytes")
        if size is None:
            why = discovery.get("gpus_unknown_because") if kind == "cuda" else None
            notes.append(f"{name}: its memory is unknown: {why or 'the driver does not list it'}")
            continue
        found.append(
            LockedDevice(name, kind, index, _size(size), _text(entry.get("product")), _text(entry.get("uuid")))
        )
    known = {d.index for d in found if d.kind == "cuda"}
    names = {d.name for d in found}
    for gpu in discovery.get("gpus") or ():
        index = int(gpu["index"])
        if index not in known and f"cuda-{index}" not in names:
            size = _size(gpu["memory_bytes"])
            product, uuid = _text(gpu.get("product")), _text(gpu.get("uuid"))
            found.append(LockedDevice(f"cuda-{index}", "cuda", index, size, product, uuid))
    return found, notes


def _size(value: Any) -> int:
    size = int(value)
    if size < 1:
        raise ValueError(f"{size} bytes of memory")
    return size


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:200]


def merged(old: Lock, neurons: Iterable[str], found: Iterable[LockedNeuron]) -> Lock:
    """The lock with these answers. Who did not answer keeps the old entry, who is not declared any more loses it."""
    new = {n.name: n for n in found}
    kept = {n.name: n for n in old.neurons}
    entries = [new.get(name) or kept.get(name) for name in neurons]
    return Lock(tuple(entry for entry in entries if entry is not None), old.measured)


def with_measured(old: Lock, seen: Iterable[Measured]) -> tuple[Lock, int]:
    """The lock with what was measured, and the number of its shapes. Of several devices of a kind, the most counts.

    What is new replaces what stood there for the same shape, also when it is less.
    """

    def shape(m: Measured) -> tuple[str, int, int, str, int]:
        return (m.manifest_sha256, m.context, m.max_sequences, m.kind, m.devices)

    new: dict[tuple[str, int, int, str, int], Measured] = {}
    for m in sorted(seen):  # the largest of a shape comes last
        new[shape(m)] = m
    kept = {shape(m): m for m in old.measured} | new
    return Lock(old.neurons, tuple(sorted(kept.values()))), len(new)
