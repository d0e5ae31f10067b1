"""Everything in a generation but fleet.db: what each host needs, from the Jinja sources in ``templates``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from compiler.emitters.artifacts import artifact_for, supply
from compiler.emitters.hosts import Station, host_files
from compiler.emitters.monitoring import monitoring_files
from compiler.emitters.render import render, toml_value
from compiler.emitters.units import NEURON_DRAIN_S
from compiler.ir import Fleet, Model, Neuron, PlacedFleet, Placement

# Stands in a model's section for what differs from neuron to neuron. No TOML text holds it.
_PLACEMENT = "\0"


def render_files(placed: PlacedFleet) -> dict[str, bytes]:
    """Path below the generation's folder -> content, sorted by path."""
    fleet = placed.fleet
    models = {model.id: model for model in fleet.models}
    # A model may be placed on every neuron: its section is rendered once.
    sections = {model.id: _section(model) for model in fleet.models}
    placements: dict[str, list[Placement]] = defaultdict(list)
    for placement in placed.placements:
        placements[placement.neuron].append(placement)
    stations: dict[str, list[Station]] = defaultdict(list)
    for neuron in fleet.neurons:
        mine = sorted(placements[neuron.name], key=lambda p: p.model)
        named = {p.model: artifact_for(models[p.model], neuron, fleet) for p in mine}
        toml = _neuron_toml(fleet, neuron, mine, sections, named)
        stations[neuron.host].append(Station(neuron, toml, tuple(sorted(set(named.values())))))
    files = monitoring_files(fleet)
    for host in fleet.hosts:
        control = _control_toml(fleet) if host.name == fleet.gateway_host else None
        if control is None and host.name not in stations:
            continue
        prefix = host.prefix or fleet.systemd.prefix
        for name, data in host_files(fleet, host.name, prefix, stations[host.name], control).items():
            files[f"hosts/{host.name}/{name}"] = data
    return dict(sorted(files.items()))


def _control_toml(fleet: Fleet) -> bytes:
    declared = {"database": {"url": fleet.database_url}, "gateway": fleet.gateway, "controller": fleet.controller}
    sections = {name: {k: v for k, v in values.items() if v is not None} for name, values in declared.items()}
    return render("control.toml", sections=sections)


def _neuron_toml(
    fleet: Fleet,
    neuron: Neuron,
    placements: Iterable[Placement],
    sections: Mapping[str, str],
    named: Mapping[str, str],
) -> bytes:
    return render(
        "neuron.toml",
        neuron=neuron,
        gateway=fleet.gateway,
        drain_s=NEURON_DRAIN_S,
        supply=supply(named.values(), neuron, fleet),
        models=[sections[p.model].replace(_PLACEMENT, _placement(p, named[p.model])) for p in placements],
    )


def _section(model: Model) -> str:
    return render("neuron-model.toml", model=model, placement=_PLACEMENT).decode("utf-8")


def _placement(placement: Placement, artifact: str) -> str:
    values = {"artifact": artifact, "devices": placement.devices, "pinned": placement.pinned}
    return "\n".join(f"{key} = {toml_value(value)}" for key, value in values.items())
