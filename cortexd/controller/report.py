"""What a neuron's ``/health`` and ``/models`` said, as one value. Pure: a strange answer is a ReportError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_STATES = {
    "loaded": "loaded",
    "loading": "loading",
    "reloading": "loading",
    "recovering": "loading",
    "draining": "draining",
    "unloading": "unloading",
    "failed": "failed",
    "poisoned": "failed",
}
# Listed by a neuron that could load them; nothing is held.
_ABSENT = frozenset({"unloaded", "available"})


class ReportError(Exception):
    """A neuron answered something that is not its contract; the message says what."""


@dataclass(frozen=True, slots=True)
class ReportedDevice:
    """A device with its memory in bytes."""

    name: str
    kind: str
    memory_total_bytes: int
    memory_used_bytes: int
    utilization_pct: float | None


@dataclass(frozen=True, slots=True)
class Took:
    """What a loaded model really took: device -> bytes; and in which shape (artifact, context in tokens, sequences)."""

    manifest_sha256: str
    context: int
    max_sequences: int
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """A model that is on the neuron, on its way in or out, or failed there."""

    id: str
    state: str
    in_flight: int
    queue_depth: int
    error: str | None
    took: Took | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One successful poll. ``activating``: the neuron still loads what its own configuration pins."""

    uptime_s: float
    devices: tuple[ReportedDevice, ...]
    models: tuple[ReportedModel, ...]
    activating: bool


def parse_report(health: Any, models: Any) -> Report:
    """Both answers as one report. ``/models`` says what is there, ``/health`` how much it has to do."""
    if not isinstance(health, dict):
        raise ReportError("/health did not answer a JSON object")
    if isinstance(models, dict):  # the OpenAI form of a list
        models = models.get("data")
    if not isinstance(models, list):
        raise ReportError("/models did not answer a JSON list")
    try:
        loads = {str(m["id"]): m for m in health.get("models") or ()}
        activation = health.get("activation") or {}
        return Report(
            uptime_s=float(health.get("uptime_secs", 0)),
            devices=tuple(_device(d) for d in health.get("devices") or ()),
            models=tuple(m for entry in models if (m := _model(entry, loads.get(str(entry["id"]), {}))) is not None),
            activating=activation.get("state") == "pre_warming",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ReportError(f"/health or /models has an unexpected form: {type(e).__name__}: {e}") from None


def _device(entry: dict[str, Any]) -> ReportedDevice:
    utilization = entry.get("utilization_pct")
    return ReportedDevice(
        str(entry["name"]),
        str(entry["kind"]),
        int(entry["memory_total_bytes"]),
        int(entry["memory_used_bytes"]),
        None if utilization is None else float(utilization),
    )


def _model(entry: dict[str, Any], load: dict[str, Any]) -> ReportedModel | None:
    said = str(entry.get("status", load.get("state", "loaded")))
    if said in _ABSENT:
        return None
    error = entry.get("error", load.get("error"))
    state = _STATES.get(said)
    if state is None:
        state, error = "failed", f"unknown state {said[:40]!r}"
    return ReportedModel(
        str(entry["id"]),
        state,
        int(load.get("in_flight", 0)),
        int(load.get("queue_depth", 0)),
        None if error is None else str(error)[:500],
        _took(entry),
    )


def _took(entry: dict[str, Any]) -> Took | None:
    """None for what was not measured, and for neurons that do not measure."""
    measured, sha256 = entry.get("measured_bytes"), entry.get("manifest_sha256")
    devices = {str(name): int(size) for name, size in (measured or {}).items() if size is not None}
    if not devices or sha256 is None:
        return None
    return Took(str(sha256)[:64], int(entry["limit"]["context"]), int(entry["max_sequences"]), devices)
