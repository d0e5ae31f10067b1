"""The files of this host: staged beside, then switched with one rename: a reader sees the old or the new ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cortexd.deploy.errors import ApplyError

ETC = "etc"
_KEPT = "generations"


def check_place(state_dir: Path) -> None:
    """Raise ApplyError if ``etc`` is something that apply did not make."""
    etc = state_dir / ETC
    if etc.exists() and not etc.is_symlink():
        raise ApplyError(f"{etc} was not made by `cortexd apply`, which keeps a link there; move it away first")


def in_place(state_dir: Path, generation: str, files: Mapping[str, bytes]) -> bool:
    """Whether ``etc`` shows exactly these files."""
    etc = state_dir / ETC
    return (
        etc.is_symlink()
        and etc.readlink() == Path(_target(generation))
        and _same(state_dir / _target(generation), files)
    )


def stage(state_dir: Path, generation: str, files: Mapping[str, bytes]) -> None:
    """Write ``generations/<hash>``, whole or not at all, safe on disk; nothing that is in use changes."""
    target = state_dir / _target(generation)
    if _same(target, files):
        return
    target.parent.mkdir(mode=0o750, exist_ok=True)
    for leftover in target.parent.glob(".staging-*"):  # of an apply that was killed; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        for name, data in files.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.chmod(0o640)
        staging.chmod(0o750)
        if target.exists():  # somebody changed it
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def switch(state_dir: Path, generation: str) -> None:
    """Point ``etc`` to the staged files: one rename."""
    temporary = state_dir / f".{ETC}-new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(_target(generation))
    temporary.replace(state_dir / ETC)


def _target(generation: str) -> str:
    return f"{_KEPT}/{generation}"


def _same(folder: Path, files: Mapping[str, bytes]) -> bool:
    if not folder.is_dir():
        return False
    present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return present.keys() == files.keys() and all(present[name].read_bytes() == data for name, data in files.items())
