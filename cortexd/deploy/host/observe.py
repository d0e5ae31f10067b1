"""observe: what is on this host and how it differs from the generation that it says it has. Changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cortexd.deploy.host import staging
from cortexd.deploy.host.activate import NOT_ENABLED, unit_states
from cortexd.deploy.host.hostfile import HostFile, read_host_file, unit_files
from cortexd.deploy.host.install import installed_units
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.manager import Manager
from cortexd.deploy.host.protocol import Order, Report, UnitState
from cortexd.deploy.host.running import load_running


def observe(order: Order, layout: Layout) -> Report:
    """``detail["units"]`` has what systemd says of each unit, ``detail["altered"]`` names drop-ins of somebody else.

    What is among the problems, an activation puts right. Raises HostError, OSError.
    """
    current = staging.current(layout)
    if current is None or not layout.generation(current).is_dir():
        problems = () if current is None else (f"{layout.etc} points to {current}, which is not there",)
        return Report(order.host, current, problems=problems)
    held = staging.read_generation(layout, current)
    files = {name: _sha256(data) for name, data in held.items()}
    if layout.variant is None:
        return Report(order.host, current, files=files)
    host = read_host_file(held)
    wanted = unit_files(host, held, layout.variant)
    files |= _installed(layout, wanted)
    problems_found = _file_problems(layout, held, wanted, files)
    units: tuple[UnitState, ...] = ()
    shown: dict[str, dict[str, str]] = {}
    altered: list[str] = []
    if layout.mode != "image":
        manager = Manager(layout.mode == "user")
        manager.check()
        shown = manager.show(wanted)
        units = unit_states(host, shown, load_running(layout))
        problems_found += _unit_problems(host, shown, units)
        altered = [
            f"{name} is altered by {now['DropInPaths']}" for name, now in shown.items() if now.get("DropInPaths")
        ]
    return Report(
        order.host,
        current,
        units=units,
        files=files,
        problems=tuple(problems_found),
        detail={"units": shown, "altered": altered},
    )


def _places(layout: Layout, held: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> dict[str, tuple[Path, bytes]]:
    """Name in the report -> where it is installed, and what should be there."""
    places = {f"unit:{name}": (layout.unit_folder / name, data) for name, data in wanted.items()}
    for below, folder in (("sysusers.d", layout.sysusers), ("tmpfiles.d", layout.tmpfiles)):
        for name, data in held.items():
            if folder is not None and name.startswith(f"{below}/"):
                places[name.replace("/", ":", 1)] = (folder / name.removeprefix(f"{below}/"), data)
    return places


def _installed(layout: Layout, wanted: Mapping[str, bytes]) -> dict[str, str]:
    found = {}
    for name in {*wanted, *installed_units(layout)}:
        if (layout.unit_folder / name).is_file():
            found[f"unit:{name}"] = _sha256((layout.unit_folder / name).read_bytes())
    return found


def _file_problems(
    layout: Layout, held: Mapping[str, bytes], wanted: Mapping[str, bytes], files: Mapping[str, str]
) -> list[str]:
    problems = []
    places = _places(layout, held, wanted)
    for path, data in places.values():
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif path.read_bytes() != data:
            problems.append(f"{path} is not what was applied")
    problems += [
        f"{name.removeprefix('unit:')} is still installed, but not in this generation"
        for name in files
        if name.startswith("unit:") and name not in places
    ]
    return problems


def _unit_problems(host: HostFile, shown: Mapping[str, Mapping[str, str]], units: tuple[UnitState, ...]) -> list[str]:
    problems = []
    for unit, state in zip(host.units, units, strict=True):
        now = shown[unit.name]
        if state.active != "active":
            problems.append(f"{unit.name} is {state.active} ({now.get('SubState', '')})")
        elif unit.kind != "target" and state.hash != unit.hash:
            problems.append(f"{unit.name} runs with the settings of another generation")
        if now.get("NeedDaemonReload") == "yes":
            problems.append(f"{unit.name} changed on disk and systemd has not read it")
        if now.get("UnitFileState") in NOT_ENABLED:
            problems.append(f"{unit.name} is {now['UnitFileState']}")
    return problems


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
