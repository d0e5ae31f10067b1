"""Unit files and the like where systemd reads them: written when they differ, removed when ours and gone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cortexd.deploy.host.durable import read_file, sync_folder, write_file
from cortexd.deploy.host.hostfile import OURS
from cortexd.deploy.host.layout import Layout

_CONF = re.compile(r"cortexd(-[\w.-]+)?\.conf\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """Names of unit files that were written, and of units that are no longer wanted."""

    written: tuple[str, ...]
    gone: tuple[str, ...]


def installed_units(layout: Layout) -> tuple[str, ...]:
    """Units that an earlier activation installed, whether or not their files are still there."""
    try:
        said = json.loads(read_file(layout.state / "installed.json", 0 if layout.as_root else None))
        return tuple(sorted(name for name in said["units"] if OURS.match(name)))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def differing(layout: Layout, units: Mapping[str, bytes]) -> Change:
    """What ``install_units`` would do."""
    written = tuple(name for name, data in units.items() if _content(layout.unit_folder / name) != data)
    return Change(written, tuple(name for name in installed_units(layout) if name not in units))


def record_units(layout: Layout, names: set[str]) -> None:
    """Remember which are ours: before they are written and after they are removed, so that none is forgotten."""
    if set(installed_units(layout)) != names:
        data = json.dumps({"units": sorted(names)}).encode() + b"\n"
        write_file(layout.state / "installed.json", data)


def write_units(layout: Layout, units: Mapping[str, bytes], change: Change) -> None:
    """Write those that differ. Raises OSError."""
    layout.unit_folder.mkdir(parents=True, exist_ok=True)
    record_units(layout, {*installed_units(layout), *units})
    for name in change.written:
        write_file(layout.unit_folder / name, units[name], mode=0o644)


def remove_units(layout: Layout, change: Change, kept: set[str]) -> None:
    """Delete the files of those that are gone, then forget them."""
    for name in change.gone:
        (layout.unit_folder / name).unlink(missing_ok=True)
    if change.gone:
        sync_folder(layout.unit_folder)
    record_units(layout, kept)


def confs_in_place(layout: Layout, files: Mapping[str, bytes]) -> bool:
    """Whether ``install_confs`` would do nothing in either folder."""
    for below, folder in (("sysusers.d", layout.sysusers), ("tmpfiles.d", layout.tmpfiles)):
        if folder is None:
            continue
        wanted = _confs(files, below)
        there = {path.name for path in folder.glob("cortexd*.conf") if _CONF.match(path.name)}
        if there != set(wanted) or any(_content(folder / name) != data for name, data in wanted.items()):
            return False
    return True


def install_confs(folder: Path, files: Mapping[str, bytes], below: str) -> list[Path]:
    """Put the generation's ``below``/*.conf into ``folder``, and take away those of ours that it lacks; all paths."""
    wanted = _confs(files, below)
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in wanted.items():
        if _content(folder / name) != data:
            write_file(folder / name, data, mode=0o644)
    for path in folder.glob("cortexd*.conf"):
        if _CONF.match(path.name) and path.name not in wanted:
            path.unlink()
    return [folder / name for name in sorted(wanted)]


def wants_enabling(data: bytes) -> bool:
    """Whether the unit file has an [Install] section."""
    return any(line.strip() == b"[Install]" for line in data.splitlines())


def _confs(files: Mapping[str, bytes], below: str) -> dict[str, bytes]:
    names = {name: name.removeprefix(f"{below}/") for name in files if name.startswith(f"{below}/")}
    return {short: files[name] for name, short in names.items() if _CONF.match(short)}


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path, None)
    except OSError:
        return None
