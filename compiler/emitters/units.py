"""The systemd units of one host, for the system's manager and for a user's. Pure but for reading the templates."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from compiler.emitters.addresses import for_socket
from compiler.emitters.artifacts import served_folders
from compiler.emitters.render import render
from compiler.ir import Fleet, Neuron

Mode = Literal["system", "user"]

# How long a neuron that stops lets its requests go on, in seconds.
NEURON_DRAIN_S = 20

# Folders that a sandboxed program does not see: what it needs below them is let in path by path.
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")  # noqa: S108


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, as the units of one manager write it. ``config``: what people put there themselves."""

    mode: Mode
    prefix: str
    state: str
    config: str


def places(prefix: str, user_prefix: str) -> tuple[Places, Places]:
    """For the system's manager, and for a user's, where ``%h`` is the home directory."""
    return (
        Places("system", prefix, "/var/lib/cortexd", "/etc/cortexd"),
        Places("user", f"%h/{user_prefix}", "%h/.local/state/cortexd", "%h/.config/cortexd"),
    )


def socket_addresses(fleet: Fleet) -> list[str] | None:
    """What the gateway's socket unit listens on; None where an address has a name, which only the gateway resolves."""
    found = [for_socket(fleet.gateway[key]) for key in ("listen", "metrics_listen")]
    return None if None in found else [address for address in found if address is not None]


def gateway_service(fleet: Fleet, at: Places) -> bytes:
    """``cortexd-gateway.service``."""
    credentials = _tokens(fleet.neurons)
    credentials += [f"{name}:{at.config}/credentials/{name}" for name in _references(fleet, "credential")]
    for key in ("certificate", "key"):
        if path := fleet.gateway.get(f"tls_{key}"):
            credentials.append(f"tls-{key}:{_escaped(path)}")
    return render(
        "systemd/cortexd-gateway.service",
        mode=at.mode,
        at=at,
        credentials=credentials,
        environment=bool(_references(fleet, "env")),
        drain_s=math.ceil(fleet.gateway["drain_s"]),
        has_socket=socket_addresses(fleet) is not None,
        writable=_database_folder(fleet),
        visible=_hidden([at.prefix, *_references(fleet, "file"), *served_folders(fleet)]),
    )


def controller_service(fleet: Fleet, at: Places) -> bytes:
    """``cortexd-controller.service``."""
    return render(
        "systemd/cortexd-controller.service",
        mode=at.mode,
        at=at,
        credentials=_tokens(fleet.neurons),
        writable=_database_folder(fleet),
        visible=_hidden([at.prefix]),
    )


def gateway_socket(addresses: list[str], at: Places) -> bytes:
    """``cortexd-gateway.socket``."""
    return render("systemd/cortexd-gateway.socket", mode=at.mode, addresses=addresses)


def target(at: Places) -> bytes:
    """``cortexd.target``."""
    return render("systemd/cortexd.target", mode=at.mode)


def neuron_service(neuron: Neuron, artifacts: Iterable[str], at: Places) -> bytes:
    """``neuron@NAME.service``. ``artifacts``: what its models are read from."""
    return render(
        "systemd/neuron@.service",
        mode=at.mode,
        at=at,
        neuron=neuron,
        drain_s=NEURON_DRAIN_S,
        credentials=_tokens([neuron]),
        visible=_hidden([at.prefix, *artifacts]),
        gpus=gpus([neuron]),
    )


def gpus(neurons: Iterable[Neuron]) -> list[int]:
    """Indexes of the declared GPUs."""
    return sorted({d.index for neuron in neurons for d in neuron.devices if d.kind == "cuda"})


def _tokens(neurons: Iterable[Neuron]) -> list[str]:
    """Read as root by systemd: a token file need not be readable for the user that the programs run as."""
    return [f"token-{n.name}:{_escaped(n.token_file)}" for n in neurons if n.token_file]


def _references(fleet: Fleet, kind: str) -> list[str]:
    """What keys declare by ``secret_env``, ``secret_file`` or ``secret_credential``."""
    found = (key.secret_ref.partition(":") for key in fleet.keys if key.secret_ref)
    return sorted({name for its_kind, _, name in found if its_kind == kind})


def _database_folder(fleet: Fleet) -> list[str]:
    """Where an SQLite database lies that is not in the state directory."""
    _, absolute, path = fleet.database_url.partition("sqlite:////")
    return [f'"{_quoted(posixpath.dirname("/" + path.partition("?")[0]))}"'] if absolute else []


def _hidden(paths: Iterable[str]) -> list[str]:
    """Those that the sandbox would hide. With the dash: what is missing is for the program to report, in words."""
    return [f'"-{_quoted(path)}"' for path in paths if path.startswith(_HIDDEN)]


def _escaped(path: str) -> str:
    """systemd expands what begins with a percent sign; the rest of such a line is taken as it is."""
    return path.replace("%", "%%")


def _quoted(path: str) -> str:
    """Inside double quotes, where a colon would separate the source from the destination."""
    return _escaped(path).replace("\\", "\\\\").replace('"', '\\"').replace(":", "\\:")
