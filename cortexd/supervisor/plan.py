"""What runs on this state directory: read from the files that ``cortexd apply`` put under ``STATE/etc``."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortexd.settings import load_settings


class UpError(Exception):
    """``up`` cannot go on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Something listens here; ``setting`` is what the user changes to move it."""

    host: str
    port: int
    setting: str


@dataclass(frozen=True, slots=True)
class Program:
    """One process to run: the name that prefixes its lines, and its command line."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Programs in starting order, their addresses, and what the ready line needs. ``chat_model`` may be absent."""

    programs: tuple[Program, ...]
    addresses: tuple[Address, ...]
    gateway: Address
    require_auth: bool
    chat_model: str | None


def read_plan(state_dir: Path) -> Plan:
    """Raises SettingsError or UpError naming the file and key that is wrong."""
    control = state_dir / "etc" / "control.toml"
    settings = load_settings(control)
    gateway = _address(settings.gateway.listen, "[gateway] listen in fleet.toml", control)
    metrics = _address(settings.gateway.metrics_listen, "[gateway] metrics_listen in fleet.toml", control)
    addresses, programs, chat_model = [gateway, metrics], [], None
    for path in sorted((state_dir / "etc" / "neurons").glob("*.toml")):
        raw = _read(path)
        name = str(raw.get("name", path.stem))
        if not isinstance(raw.get("listen"), str):
            raise UpError(f"{path}: listen is missing; run `cortexd compile` and `cortexd apply` again")
        setting = f"endpoint of [[neurons]] {name} in fleet.toml"
        addresses.append(_address(raw["listen"], setting, path))
        programs.append(Program(f"neuron {name}", (sys.executable, "-m", "neuron", "serve", "--config", str(path))))
        chat_model = chat_model or next((m["id"] for m in raw.get("models", ()) if m.get("task") == "chat"), None)
    options = ("--config", str(control), "--state-dir", str(state_dir))
    for role in ("controller", "gateway"):
        programs.append(Program(role, (sys.executable, "-m", "cortexd", role, *options)))
    return Plan(tuple(programs), tuple(addresses), gateway, settings.gateway.require_auth, chat_model)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UpError(f"{path}: {e}") from None


def _address(listen: str, setting: str, path: Path) -> Address:
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UpError(f"{path}: {listen!r} is not HOST:PORT ({setting})")
    return Address(host.strip("[]") or "0.0.0.0", int(port), setting)  # noqa: S104
