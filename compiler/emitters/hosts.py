"""``hosts/<host>/``: settings, units, users, folders, and ``host.json``, which tells apply what to start and when."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from compiler.emitters import units
from compiler.emitters.addresses import from_here
from compiler.emitters.render import json_bytes, render, toml_value
from compiler.emitters.units import Places, places
from compiler.ir import Fleet, Neuron

HOST_SCHEMA = 1
_Both = tuple[Places, Places]


@dataclass(frozen=True, slots=True)
class Station:
    """A neuron with its ``neuron.toml`` and the artifacts that its models are read from, sorted."""

    neuron: Neuron
    toml: bytes
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit in both variants. ``settings``: what it reads at start. ``ready``: the URL that answers 200 then."""

    name: str
    system: bytes
    user: bytes
    settings: bytes = b""
    ready: str | None = None

    def entry(self) -> dict[str, Any]:
        content = b"\0".join((self.system, self.user, self.settings))
        return {
            "name": self.name,
            "kind": self.name.rpartition(".")[2],
            "hash": hashlib.sha256(content).hexdigest(),
            "ready": self.ready,
            # a name in a certificate is nothing that a request to loopback could check
            "ready_insecure": (self.ready or "").startswith("https:"),
        }


def host_files(
    fleet: Fleet, host: str, prefix: str, stations: Sequence[Station], control: bytes | None
) -> dict[str, bytes]:
    """Path below the host's folder -> content. ``prefix``: where its programs are; ``control``: control.toml, on the
    gateway's host only."""
    at = places(prefix.rstrip("/"), fleet.systemd.user_prefix)
    found = [_neuron(station, at) for station in stations]
    files = {f"neurons/{station.neuron.name}.toml": station.toml for station in stations}
    if control is not None:
        files["control.toml"] = control
        found += _control(fleet, at)
    found.append(_unit("cortexd.target", at, units.target))
    for unit in found:
        files[f"systemd/system/{unit.name}"] = unit.system
        files[f"systemd/user/{unit.name}"] = unit.user
    values = {"at": at[0], "gpus": units.gpus([station.neuron for station in stations])}
    files["sysusers.d/cortexd.conf"] = render("host/sysusers.conf", **values)
    files["tmpfiles.d/cortexd.conf"] = render("host/tmpfiles.conf", **values)
    files["host.json"] = json_bytes(
        {
            "schema": HOST_SCHEMA,
            "fleet": fleet.name,
            "host": host,
            "prefix": at[0].prefix,
            "user_prefix": fleet.systemd.user_prefix,
            "programs": [*(["cortexd"] if control is not None else []), *(["neuron"] if stations else [])],
            "units": [unit.entry() for unit in found],
        }
    )
    return files


def _unit(
    name: str, at: _Both, make: Callable[[Places], bytes], settings: bytes = b"", ready: str | None = None
) -> _Unit:
    system, user = at
    return _Unit(name, make(system), make(user), settings, ready)


def _neuron(station: Station, at: _Both) -> _Unit:
    neuron = station.neuron
    return _unit(
        f"neuron@{neuron.name}.service",
        at,
        partial(units.neuron_service, neuron, station.artifacts),
        settings=station.toml,
        ready=f"http://{from_here(neuron.listen)}/health",
    )


def _control(fleet: Fleet, at: _Both) -> list[_Unit]:
    """In the order of starting. A unit's hash covers the sections that its program reads, and no others."""
    database = {"url": fleet.database_url}
    gateway, controller = (_settings(database, own) for own in (fleet.gateway, fleet.controller))
    found = [_unit("cortexd-controller.service", at, partial(units.controller_service, fleet), controller)]
    if (addresses := units.socket_addresses(fleet)) is not None:
        found.append(_unit("cortexd-gateway.socket", at, partial(units.gateway_socket, addresses)))
    # on the metrics address, which speaks plain HTTP whatever the API does
    ready = f"http://{from_here(fleet.gateway['metrics_listen'])}/ready"
    found.append(_unit("cortexd-gateway.service", at, partial(units.gateway_service, fleet), gateway, ready))
    return found


def _settings(*sections: Mapping[str, Any]) -> bytes:
    lines = [f"{k} = {toml_value(v)}" for section in sections for k, v in section.items() if v is not None]
    return "\n".join(lines).encode("utf-8")
