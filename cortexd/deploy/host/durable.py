"""Writing that survives a power cut, and reading that is not fooled by who owns the folder.

In mode ``system`` the state folder belongs to user ``cortexd`` (the database grows there) while root's agent reads its
own files from it. So root believes only files that root owns: ``trusted`` says so for each one it opens.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

FILE_MODE = 0o640
FOLDER_MODE = 0o750


def sync_folder(folder: Path) -> None:
    """Make the names in it safe on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes, mode: int = FILE_MODE, gid: int | None = None) -> None:
    """Replace ``path`` by one rename: a reader, and a power cut, see the old or the new content. Raises OSError."""
    for left in path.parent.glob(f".cortexd-new-{path.name}-*"):  # by one that was killed; the lock is ours
        left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".cortexd-new-{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, mode)
            if gid is not None:
                os.fchown(handle, -1, gid)
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def link(path: Path, target: str) -> None:
    """Point the link ``path`` to ``target`` by one rename."""
    temporary = path.with_name(f".{path.name}-new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(path)
    sync_folder(path.parent)


def read_file(path: Path, owner: int | None) -> bytes:
    """Its content. Raises OSError; PermissionError when it is a link or belongs to another than ``owner``."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if owner is not None and os.fstat(handle).st_uid != owner:
            raise PermissionError(1, "does not belong to root, so root will not use it", str(path))
        return file.read()
