"""The controller's picture of the fleet: what neurons reported, what is under way. In memory; one asyncio thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cortexd.controller.report import Report, ReportedDevice, ReportedModel, Took
from cortexd.residency import DeviceState, Failure, NeuronState, Observed, ResidentState
from cortexd.store.observations import Fleet, Rows

MISSES_UNTIL_UNHEALTHY = 3
# A resident that turned out to be busy is left alone for this long.
HOLD_S = 2.0
# More than anybody asks for with defrag_after_cycles.
EVICTIONS_MOST = 10_000


@dataclass(slots=True)
class Known:
    """One neuron. ``reported`` is false until it answered to this process; ``acted_at`` is when we last changed it."""

    healthy: bool = False
    misses: int = 0
    polled_at: float = 0.0
    error: str | None = None
    version: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    described: bool = False
    reported: bool = False
    activating: bool = False
    uptime_s: float = 0.0
    acted_at: float = 0.0
    devices: tuple[ReportedDevice, ...] = ()
    models: dict[str, ReportedModel] = field(default_factory=dict)
    since: dict[str, tuple[str, float]] = field(default_factory=dict)
    under_way: dict[str, str] = field(default_factory=dict)  # model -> loading | draining | unloading
    evicted_at: deque[float] = field(default_factory=lambda: deque(maxlen=EVICTIONS_MOST))  # since it was last cleared


class Picture:
    """Fed by polls and by finished actions; read as ``Observed`` by residency and as rows by the recorder."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self._known: dict[str, Known] = {}
        self._failures: dict[tuple[str, str], Failure] = {}
        self._held: dict[tuple[str, str], float] = {}
        self._last_used: dict[tuple[str, str], float] = {}

    def take_over(self, rows: Rows, evictions: Mapping[str, list[float]]) -> None:
        """Begin with what the controller before this one had written, so that a restart changes nothing by itself."""
        for name, times in evictions.items():
            self._known.setdefault(name, Known()).evicted_at.extend(times)
        for (table, (name, *_)), row in rows.items():
            known = self._known.setdefault(name, Known())
            if table == "neuron":
                known.healthy, known.version, known.detail = row["healthy"], row["version"], row["detail"]
            elif table == "resident":
                known.since[row["model"]] = (row["state"], row["since"])

    def set_fleet(self, fleet: Fleet) -> None:
        """A generation went live: forget other neurons and old failures."""
        self.fleet = fleet
        self._known = {name: self._known.get(name, Known()) for name in fleet.neurons}
        self._failures.clear()

    def heard(self, name: str, report: Report, started_at: float, now: float) -> None:
        """A poll that began at ``started_at`` succeeded."""
        known = self._known.get(name)
        if known is None:
            return
        restarted = report.uptime_s < known.uptime_s
        if not known.healthy or restarted or not known.reported:
            known.described = False
            self._failures = {key: f for key, f in self._failures.items() if key[1] != name}
        known.healthy, known.misses, known.error, known.polled_at = True, 0, None, now
        known.activating, known.uptime_s, known.devices = report.activating, report.uptime_s, report.devices
        # A poll that was under way while a load ended still tells of the time before it.
        if started_at >= known.acted_at:
            known.models = {model.id: model for model in report.models}
        known.reported = True
        while known.evicted_at and known.evicted_at[0] < now - report.uptime_s - 1:
            known.evicted_at.popleft()  # it restarted since, and holds no fragments of that time
        self._note_since(known, now)
        for model in known.models.values():
            if model.in_flight or model.queue_depth:
                self._last_used[model.id, name] = now

    def missed(self, name: str, error: str, now: float) -> None:
        """A poll failed: three in a row make the neuron unhealthy, the first does if it never answered this process."""
        known = self._known.get(name)
        if known is None:
            return
        known.misses += 1
        known.error, known.polled_at = error, now
        if known.misses >= MISSES_UNTIL_UNHEALTHY or not known.reported:
            known.healthy = False

    def wants_description(self, name: str) -> bool:
        """Whether discovery and version are to be asked for: once per appearance."""
        known = self._known.get(name)
        return known is not None and known.healthy and not known.described

    def described(self, name: str, detail: dict[str, Any]) -> None:
        """``/discovery`` and ``/version`` answered."""
        known = self._known.get(name)
        if known is None:
            return
        known.detail, known.described = detail, True
        version = detail.get("version")
        if isinstance(version, dict):
            said = version.get("package_version") or version.get("version")
            known.version = None if said is None else str(said)

    def is_healthy(self, name: str) -> bool:
        """As the last polls say."""
        return name in self._known and self._known[name].healthy

    def begin(self, name: str, model: str, state: str) -> None:
        """An action on a model starts, or comes to its next step: loading, draining or unloading."""
        self._known[name].under_way[model] = state

    def end(self, name: str, model: str, now: float, *, resident: bool | None) -> None:
        """The action ended with the model resident, gone, or (None) as it was before."""
        known = self._known.get(name)
        if known is None:
            return
        known.under_way.pop(model, None)
        if resident is None:
            return
        known.acted_at = now
        if resident:
            known.models[model] = ReportedModel(model, "loaded", 0, 0, None)
            self._failures.pop((model, name), None)
            self._last_used[model, name] = now
        else:
            known.models.pop(model, None)
            known.evicted_at.append(now)
        self._note_since(known, now)

    def cleared(self, name: str) -> None:
        """Everything that may leave has left: evictions are counted from here."""
        known = self._known.get(name)
        if known is not None:
            known.evicted_at.clear()

    def load_failed(self, name: str, model: str, error: str, now: float) -> None:
        """Remember it, so that residency backs off."""
        before = self._failures.get((model, name))
        self._failures[model, name] = Failure(before.count + 1 if before else 1, now, error)

    def hold(self, name: str, model: str, now: float) -> None:
        """Do not try to evict this one again for a moment."""
        self._held[model, name] = now + HOLD_S

    def used(self, times: Mapping[tuple[str, str], float]) -> None:
        """(model, neuron) -> when the ledger saw it answer last."""
        for key, at in times.items():
            self._last_used[key] = max(at, self._last_used.get(key, 0.0))

    def loaded(self) -> list[tuple[str, str]]:
        """(model, neuron) of every loaded resident."""
        return [(m.id, n) for n, known in self._known.items() for m in known.models.values() if m.state == "loaded"]

    def took(self) -> list[tuple[str, str, Took]]:
        """(neuron, model, what it took) of every loaded model that was measured."""
        return [
            (name, model.id, model.took)
            for name, known in self._known.items()
            for model in known.models.values()
            if model.took is not None and model.state == "loaded" and model.id not in known.under_way
        ]

    def observed(self) -> Observed:
        """For residency: only neurons that answered this process, with what is under way laid over their reports."""
        neurons = {name: self._state(name, known) for name, known in self._known.items() if known.reported}
        evictions = {name: len(known.evicted_at) for name, known in self._known.items()}
        return Observed(neurons, dict(self._failures), dict(self._held), evictions)

    def _state(self, name: str, known: Known) -> NeuronState:
        residents = {}
        for model in self._models(known):
            since = known.since.get(model.id, ("", 0.0))[1]
            used = max(since, self._last_used.get((model.id, name), 0.0))
            residents[model.id] = ResidentState(model.id, model.state, model.in_flight, model.queue_depth, used)
        devices = {d.name: DeviceState(d.kind, d.memory_total_bytes, d.memory_used_bytes) for d in known.devices}
        return NeuronState(name, known.healthy, known.activating or bool(known.under_way), devices, residents)

    def rows(self) -> tuple[Rows, set[tuple[str, str]]]:
        """The rows as they ought to be, and which (table, neuron) they are complete for."""
        rows: Rows = {}
        complete: set[tuple[str, str]] = set()
        for name, known in self._known.items():
            if known.polled_at:
                complete.add(("neuron", name))
                rows["neuron", (name,)] = {
                    "neuron": name,
                    "healthy": known.healthy,
                    "misses": min(known.misses, MISSES_UNTIL_UNHEALTHY),  # a dead neuron's row need not move for ever
                    "polled_at": known.polled_at,
                    "error": known.error,
                    "version": known.version,
                    "detail": known.detail,
                }
            if known.reported:
                complete |= {("device", name), ("resident", name)}
                self._report_rows(name, known, rows)
        return rows, complete

    def _report_rows(self, name: str, known: Known, rows: Rows) -> None:
        for device in known.devices:
            rows["device", (name, device.name)] = {
                "neuron": name,
                "device": device.name,
                "kind": device.kind,
                "memory_total_bytes": device.memory_total_bytes,
                "memory_used_bytes": device.memory_used_bytes,
                "utilization_pct": device.utilization_pct,
            }
        for model in self._models(known):
            rows["resident", (name, model.id)] = {
                "neuron": name,
                "model": model.id,
                "state": model.state,
                "in_flight": model.in_flight,
                "queue_depth": model.queue_depth,
                "since": known.since.get(model.id, ("", known.polled_at))[1],
                "error": model.error,
            }

    def _models(self, known: Known) -> list[ReportedModel]:
        """The reported models under what we are doing to them right now."""
        merged = dict(known.models)
        for model, state in known.under_way.items():
            before = merged.get(model)
            if before is None:
                merged[model] = ReportedModel(model, state, 0, 0, None)
            elif not (state == "loading" and before.state == "loaded"):
                merged[model] = replace(before, state=state, error=None)
        return list(merged.values())

    def _note_since(self, known: Known, now: float) -> None:
        for model in known.models.values():
            state, since = known.since.get(model.id, ("", 0.0))
            if state != model.state:
                known.since[model.id] = (model.state, now)
            elif since < now - known.uptime_s - 1:  # it restarted, and loaded anew what it holds
                known.since[model.id] = (state, now - known.uptime_s)
        for gone in set(known.since) - set(known.models) - set(known.under_way):
            del known.since[gone]
