"""The journal for usage rows while the database is away: STATE_DIR/spool/*.jsonl, one file per living writer.

A row is in the file, synced, before the request that it belongs to ends. Draining inserts and then deletes; a crash
between the two inserts again, and the primary key makes that nothing. Blocking disk access: real threads only.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from cortexd.ledger.row import UsageRow


class Spool:
    """One writer's journal. Its lock tells others that it is in use, and dies with the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._path: Path | None = None

    def append(self, rows: Sequence[UsageRow]) -> None:
        """Write and sync. Raises OSError when even the disk fails."""
        file = self._file or self._open()
        file.write("".join(row.to_json() + "\n" for row in rows).encode())
        file.flush()
        os.fsync(file.fileno())

    def drain(self, insert: Callable[[Sequence[UsageRow]], None]) -> tuple[int, list[str]]:
        """Hand every row of this journal and of those whose writer is gone to ``insert``, then delete them.

        Returns how many rows, and complaints about lines that cannot be read (the torn end after a power loss: that
        request was never answered). What ``insert`` raises passes through, and nothing is deleted then.
        """
        if not self._folder.is_dir():
            return 0, []
        drained, complaints = 0, []
        for path in sorted(self._folder.glob("*.jsonl")):
            count, torn = self._drain_file(path, insert)
            drained += count
            complaints += torn
        return drained, complaints

    def close(self) -> None:
        """Give the journal up; rows in it are found by the next writer."""
        if self._file is not None:
            self._file.close()
            self._file = self._path = None

    def _drain_file(self, path: Path, insert: Callable[[Sequence[UsageRow]], None]) -> tuple[int, list[str]]:
        own = path == self._path
        try:
            with path.open("rb") as file:
                if not own:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rows, torn = _read(path, file)
                for start in range(0, len(rows), 1000):
                    insert(rows[start : start + 1000])
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            return 0, []  # its writer lives, or another one was quicker
        if own:
            self.close()
        return len(rows), torn

    def _open(self) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        serial = 0
        while True:
            path = self._folder / f"usage-{os.getpid()}-{serial}.jsonl"
            try:
                file = path.open("xb")
            except FileExistsError:
                serial += 1
                continue
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):  # another writer drained the new, still empty file before it was locked
                file.close()
                continue
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name must survive a power loss too
            finally:
                os.close(folder)
            self._file, self._path = file, path
            return file


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _read(path: Path, file: BinaryIO) -> tuple[list[UsageRow], list[str]]:
    rows, torn = [], []
    for number, line in enumerate(file, start=1):
        try:
            rows.append(UsageRow.from_json(line.decode()))
        except ValueError:
            torn.append(f"{path}:{number}: not a usage row, left out")
    return rows, torn
