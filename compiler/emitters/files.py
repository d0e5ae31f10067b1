"""What each host needs, from the Jinja sources in ``templates``: control.toml, neuron configurations, systemd units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compiler.ir import Model, Neuron, PlacedFleet
from cortexd.resources import resource


def render_files(placed: PlacedFleet) -> dict[str, bytes]:
    """Path below the generation's folder -> content, sorted by path."""
    # No HTML is made here, and TOML values go through `toml`, which quotes them.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(resource("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["toml"] = toml_value

    def render(template: str, **values: Any) -> bytes:
        return environment.get_template(template).render(**values).encode("utf-8")

    fleet = placed.fleet
    files: dict[str, bytes] = {}
    home = f"hosts/{fleet.gateway_host}"
    sections = {"database": {"url": fleet.database_url}, "gateway": fleet.gateway, "controller": fleet.controller}
    files[f"{home}/control.toml"] = render("control.toml", sections=sections)
    for unit in ("cortexd-gateway.service", "cortexd-controller.service"):
        files[f"{home}/systemd/{unit}"] = render(f"systemd/{unit}", fleet=fleet)
    for neuron in fleet.neurons:
        here = f"hosts/{neuron.host}"
        files[f"{here}/neurons/{neuron.name}.toml"] = render(
            "neuron.toml", gateway=fleet.gateway, neuron=neuron, models=_models_of(neuron, placed)
        )
        files[f"{here}/systemd/neuron@{neuron.name}.service"] = render(
            "systemd/neuron@.service", fleet=fleet, neuron=neuron
        )
    return dict(sorted(files.items()))


def _models_of(neuron: Neuron, placed: PlacedFleet) -> list[Mapping[str, Any]]:
    models: dict[str, Model] = {m.id: m for m in placed.fleet.models}
    mine = sorted((p for p in placed.placements if p.neuron == neuron.name), key=lambda p: p.model)
    return [{"model": models[p.model], "devices": list(p.devices), "pinned": p.pinned} for p in mine]


def toml_value(value: object) -> str:
    """A TOML literal for text, numbers, booleans and lists of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise TypeError(f"no TOML literal for {type(value).__name__}")
