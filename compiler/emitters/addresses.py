"""HOST:PORT as programs on the same machine, systemd and Prometheus need it. Pure."""

from __future__ import annotations

import ipaddress

# Listening on all addresses of a machine -> the one that a program on the same machine uses.
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def split(address: str) -> tuple[str, int]:
    """The host (IPv6 without its brackets) and the port of a HOST:PORT that was validated."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def join(host: str, port: int) -> str:
    """HOST:PORT again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def from_here(address: str) -> str:
    """Where a program on the same machine reaches what listens on ``address``: every address includes loopback."""
    host, port = split(address)
    return join(ANY.get(host, host), port)


def for_socket(address: str) -> str | None:
    """``address`` as ``ListenStream=`` takes it, or None: systemd resolves no names."""
    host, port = split(address)
    if host == "localhost":
        host = "127.0.0.1"
    try:
        return join(str(ipaddress.ip_address(host)), port)
    except ValueError:
        return None
