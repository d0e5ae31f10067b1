"""Of phase 3: whether neurons on other hosts reach what they fetch their artifacts from. Pure."""

from __future__ import annotations

import ipaddress

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath
from compiler.ir import Fleet
from compiler.source import Source


def unreachable(fleet: Fleet, source: Source) -> list[Diagnostic]:
    """A warning where the gateway's metrics address, which serves artifacts, is one that only its own host has."""
    here = next((h for h in fleet.hosts if h.name == fleet.gateway_host), None)
    if here is None or all(m.artifact.startswith("builtin:") for m in fleet.models):
        return []
    other = {h.name for h in fleet.hosts if h.address != here.address and not is_loopback(h.address)}
    away = next((n for n in fleet.neurons if n.host in other and n.host != here.name), None)
    if away is None:
        return []
    listen = fleet.gateway["metrics_listen"].rpartition(":")[0].strip("[]")
    if is_loopback(listen):
        path: KeyPath = ("gateway", "metrics_listen")
        message = f"neuron {away.name} fetches its models from this address, which only {here.name} itself has"
        hint = 'for example "0.0.0.0:31314", in a network that only your hosts are in'
        return [Diagnostic(codes.OUT_OF_REACH, "warning", message, source.span(path), path, hint)]
    if listen in ("0.0.0.0", "::") and is_loopback(here.address):  # noqa: S104 (compared, not bound)
        path = ("hosts", _position(source, here.name), "address")
        message = f"neuron {away.name} fetches its models from {here.name}, and this address is each host's own"
        hint = f"give the address at which the other hosts reach {here.name}"
        return [Diagnostic(codes.OUT_OF_REACH, "warning", message, source.span(path), path, hint)]
    return []


def is_loopback(host: str) -> bool:
    """Whether each machine has this address for itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _position(source: Source, name: str) -> int:
    entries = (source.data or {}).get("hosts", [])
    return next((n for n, entry in enumerate(entries) if isinstance(entry, dict) and entry.get("name") == name), 0)
