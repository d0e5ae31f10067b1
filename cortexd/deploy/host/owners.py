"""User ``cortexd`` and what belongs to whom, in root's modes.

The state folder is the user's (the database grows in it); generations stay root's and the group may read them, so no
service can change what it is started from.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cortexd.deploy.host.durable import FILE_MODE, FOLDER_MODE
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.protocol import HostError

USER = "cortexd"
_TOOL_S = 60.0


def create_users(layout: Layout, confs: Sequence[Path]) -> None:
    """Run systemd-sysusers over our files. Raises HostError."""
    _tool(layout, ["systemd-sysusers"], confs)


def create_tmpfiles(layout: Layout, confs: Sequence[Path]) -> None:
    """Run systemd-tmpfiles over our files. Raises HostError. Nothing in an image: it does that when it boots."""
    if layout.mode == "system":
        _tool(layout, ["systemd-tmpfiles", "--create"], confs)


def own(layout: Layout, generation: str) -> str | None:
    """Give the folders to whom they belong; what is missing for that, in words."""
    ids = _ids(layout.root)
    if ids is None:
        return f"there is no user {USER}, so what is in {layout.state} stays root's"
    uid, gid = ids
    os.chown(layout.state, uid, gid)
    layout.state.chmod(FOLDER_MODE)
    folder = layout.generation(generation)
    for path in [layout.generations, folder, *folder.rglob("*")]:
        _give(path, 0, gid)
    for path in layout.state.iterdir():
        # the database that apply has just made as root; the agent's and apply's own records stay root's
        if not path.name.startswith(".") and path.suffix != ".json" and _is_roots_file(path):
            os.chown(path, uid, gid, follow_symlinks=False)
            path.chmod(FILE_MODE)
    return None


def _give(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)
    if not path.is_symlink():
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)


def _is_roots_file(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == 0 and found.st_nlink == 1


def _ids(root: Path) -> tuple[int, int] | None:
    """Of the user, as the machine in ``root`` counts: an image has its own."""
    try:
        for line in (root / "etc" / "passwd").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(":")
            if fields[0] == USER and len(fields) > 3:
                return int(fields[2]), int(fields[3])
    except (OSError, ValueError):
        pass
    return None


def _tool(layout: Layout, command: list[str], confs: Sequence[Path]) -> None:
    if not confs:
        return
    if shutil.which(command[0]) is None:
        if layout.mode == "image":
            return  # the image does it when it boots
        raise HostError(f"there is no {command[0]} on this host")
    where = [f"--root={layout.root}"] if layout.mode == "image" else []
    # by standard input: releases of systemd differ on whether a named file is looked for below the root
    text = "".join(conf.read_text(encoding="utf-8") for conf in confs)
    done = subprocess.run([*command, *where, "-"], input=text, capture_output=True, text=True, timeout=_TOOL_S)
    if done.returncode != 0:
        raise HostError(f"{command[0]} with {', '.join(map(str, confs))}: {done.stderr.strip() or 'failed'}")
