"""Generations on a host: staged whole beside the one in use, then switched with one rename."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cortexd.deploy.host.durable import FILE_MODE, FOLDER_MODE, link, read_file, sync_folder
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.protocol import HostError

_NAME = re.compile(r"[0-9A-Za-z]{1,128}\Z")


def check_place(layout: Layout) -> None:
    """Raise HostError if ``etc`` or ``generations`` is something that apply did not make."""
    if layout.etc.exists() and not layout.etc.is_symlink():
        raise HostError(f"{layout.etc} was not made by `cortexd apply`, which keeps a link there; move it away first")
    folder = layout.generations
    if not folder.is_symlink() and not folder.exists():
        return
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (layout.as_root and found.st_uid != 0):
        raise HostError(f"{folder} was not made by `cortexd apply`; move it away first")


def check_name(generation: str) -> None:
    """Raise HostError unless it can be a folder's name."""
    if not _NAME.match(generation):
        raise HostError(f"{generation!r} names no generation")


def current(layout: Layout) -> str | None:
    """The generation that ``etc`` points to."""
    try:
        target = layout.etc.readlink()
    except OSError:
        return None
    return target.name if target.parent == Path("generations") else None


def stage(layout: Layout, generation: str, files: Mapping[str, bytes]) -> None:
    """Write ``generations/<hash>``, whole or not at all, safe on disk. Raises HostError, OSError."""
    check_name(generation)
    for name in files:
        if name.startswith("/") or not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise HostError(f"{name!r} is no path below a generation")
    target = layout.generation(generation)
    if same(layout, generation, files):
        return
    target.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(target.parent.parent)
    for leftover in target.parent.glob(".staging-*"):  # of an agent that was killed; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        for name, data in files.items():
            _write_new(staging / name, data)
        staging.chmod(FOLDER_MODE)
        for folder in [staging, *(p for p in staging.rglob("*") if p.is_dir())]:
            sync_folder(folder)
        if target.exists():  # somebody changed it
            old = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
            target.rename(old / "old")
            staging.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            staging.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not same(layout, generation, files):
        raise HostError(f"{target} does not hold what was written; is the disk sound?")


def _write_new(path: Path, data: bytes) -> None:
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=FOLDER_MODE)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())


def switch(layout: Layout, generation: str) -> bool:
    """Point ``etc`` to a staged generation; whether it pointed elsewhere. Raises HostError when it is not there."""
    if not layout.generation(generation).is_dir():
        raise HostError(f"{layout.generation(generation)} is not there; it has to be prepared first")
    if current(layout) == generation:
        return False
    link(layout.etc, f"generations/{generation}")
    return True


def read_generation(layout: Layout, generation: str) -> dict[str, bytes]:
    """Every file of it by path. Raises HostError when it is not there or not trusted."""
    folder = layout.generation(generation)
    if not folder.is_dir():
        raise HostError(f"{folder} is not there; it has to be prepared first")
    owner = 0 if layout.as_root else None
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            found[path.relative_to(folder).as_posix()] = read_file(path, owner)
    return found


def same(layout: Layout, generation: str, files: Mapping[str, bytes]) -> bool:
    """Whether the staged folder holds exactly these files."""
    if not layout.generation(generation).is_dir():
        return False
    try:
        return read_generation(layout, generation) == dict(files)
    except OSError:
        return False


def prune(layout: Layout, keep: tuple[str, ...]) -> tuple[str, ...]:
    """Delete every generation but the ones in ``keep`` and the one in use; the names of those that went."""
    kept = {*keep, current(layout)}
    gone = []
    if layout.generations.is_dir():
        for folder in sorted(layout.generations.iterdir()):
            if folder.name not in kept:
                shutil.rmtree(folder)
                if not folder.name.startswith("."):
                    gone.append(folder.name)
    return tuple(gone)
