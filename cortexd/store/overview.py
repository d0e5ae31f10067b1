"""The observed state as a whole: in one read for ``cortexd status``, and forgotten when a fleet starts anew."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, delete, select

from cortexd.models import (
    ApplyHistory,
    Decision,
    DeviceObservation,
    Generation,
    Live,
    LoadRequest,
    Model,
    Neuron,
    NeuronObservation,
    Placement,
    Resident,
)

# The controller writes at least every 10 s; what is older than three times that, nobody keeps up to date.
STALE_S = 30.0


def overview(engine: Engine, now: float) -> dict[str, Any]:
    """Generation, its apply, neurons, devices, residents, replicas, open loads and the last decisions.

    ``now`` is Unix seconds.
    """
    with engine.connect() as connection:
        live = connection.execute(
            select(Live.generation, Live.version, Live.applied_at, Generation.fleet).join(
                Generation, Generation.hash == Live.generation
            )
        ).first()
        generation = live.generation if live else ""

        def rows(query: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.execute(query).mappings()]

        declared = rows(select(Neuron.name, Neuron.host, Neuron.endpoint).where(Neuron.generation == generation))
        heard = {row["neuron"]: row for row in rows(select(NeuronObservation.__table__))}
        devices = rows(select(DeviceObservation.__table__).order_by(DeviceObservation.neuron, DeviceObservation.device))
        residents = rows(select(Resident.__table__).order_by(Resident.neuron, Resident.model))
        loads = rows(select(LoadRequest.__table__).where(LoadRequest.open == 1).order_by(LoadRequest.requested_at))
        query = select(Placement.neuron, Placement.model).where(
            Placement.generation == generation, Placement.pinned.is_(True)
        )
        pinned = {(row.neuron, row.model) for row in connection.execute(query)}
        models = rows(select(Model.id, Model.settings).where(Model.generation == generation).order_by(Model.id))
        columns = (ApplyHistory.kind, ApplyHistory.state, ApplyHistory.finished_at, ApplyHistory.error)
        applied = rows(select(*columns).where(ApplyHistory.version == (live.version if live else 0)))
        decisions = rows(
            select(Decision.at, Decision.kind, Decision.model, Decision.neuron, Decision.reason)
            .order_by(Decision.id.desc())
            .limit(5)
        )
    neurons = [_neuron(row, heard.get(row["name"]), now) for row in sorted(declared, key=lambda r: str(r["name"]))]
    for resident in residents:
        resident["pinned"] = (resident["neuron"], resident["model"]) in pinned
        resident["for_s"] = round(now - resident.pop("since"), 1)
    for load in loads:
        load.pop("open")
        load["waiting_s"] = round(now - load["requested_at"], 1)
    return {
        "generation": None if live is None else live.generation,
        "fleet": None if live is None else live.fleet,
        "version": 0 if live is None else live.version,
        "applied_at": None if live is None else live.applied_at,
        "apply": applied[0] if applied else None,
        "models": len(models),
        "neurons": neurons,
        "devices": devices,
        "residents": residents,
        "replicas": _replicas(models, residents, {n["name"] for n in neurons if n["state"] == "healthy"}),
        "in_flight": sum(resident["in_flight"] for resident in residents),
        "queue_depth": sum(resident["queue_depth"] for resident in residents),
        "loads": loads,
        "decisions": decisions,
    }


def forget_observed(engine: Engine) -> None:
    """Delete what was observed of neurons, devices and residents: their processes are down. One transaction."""
    with engine.begin() as connection:
        for table in (Resident, DeviceObservation, NeuronObservation):
            connection.execute(delete(table))


def _replicas(models: list[dict[str, Any]], residents: list[dict[str, Any]], up: set[str]) -> list[dict[str, Any]]:
    """The models that are loaded, or ought to be: on which neurons, and what is declared (null: nothing)."""
    found = []
    for model in models:
        declared = model["settings"].get("replicas", {})
        there = [r["neuron"] for r in residents if r["model"] == model["id"] and r["state"] == "loaded"]
        neurons = [name for name in there if name in up]
        if neurons or declared.get("min"):
            counts = {"loaded": len(neurons), "min": declared.get("min"), "max": declared.get("max")}
            found.append({"model": model["id"], **counts, "neurons": neurons})
    return found


def _neuron(declared: dict[str, Any], heard: dict[str, Any] | None, now: float) -> dict[str, Any]:
    """``state``: healthy, unhealthy, unknown (never polled), or stale (the controller is not running)."""
    age = None if heard is None else now - heard["polled_at"]
    if heard is None or age is None:
        state = "unknown"
    elif age > STALE_S:
        state = "stale"
    else:
        state = "healthy" if heard["healthy"] else "unhealthy"
    return {
        "name": declared["name"],
        "host": declared["host"],
        "endpoint": declared["endpoint"],
        "state": state,
        "last_poll_age_s": None if age is None else round(max(age, 0.0), 1),
        "misses": heard["misses"] if heard else 0,
        "version": heard["version"] if heard else None,
        "error": heard["error"] if heard else None,
    }
