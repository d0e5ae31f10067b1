"""What tools do to files: inside the workspace only, and never more than a model can read. Blocking; no editor here."""

from __future__ import annotations

import os
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_BYTES = 2 << 20
MAX_OUTPUT_CHARS = 48_000
MAX_ENTRIES = 1000
MAX_HITS = 200
SEARCH_S = 10.0
SKIPPED = frozenset({".git", ".hg", ".venv", "node_modules", "__pycache__"})


class ToolError(Exception):
    """What the model is told when a tool cannot do it."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """``root`` is resolved once: a link to the workspace is fine, a link out of it is not."""

    root: Path

    def path(self, given: object) -> Path:
        """Where that is, links followed. Raises ToolError for a place outside, and for what is no path."""
        if not isinstance(given, str) or not given or "\0" in given:
            raise ToolError("path must be text that is not empty")
        try:
            found = (self.root / given).resolve()
        except (OSError, RuntimeError) as e:
            raise ToolError(f"{given}: cannot be resolved: {e}") from e
        if not found.is_relative_to(self.root):
            raise ToolError(f"{given}: is outside of the workspace {self.root}")
        return found

    def check_readable(self, path: Path) -> None:
        """Raises ToolError for what is no text file of a bearable size."""
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ToolError(f"{path}: is no file")
            if found.st_size > MAX_FILE_BYTES:
                raise ToolError(f"{path}: has {found.st_size} bytes; files above {MAX_FILE_BYTES} are not read")
            with path.open("rb") as file:
                if b"\0" in file.read(8192):
                    raise ToolError(f"{path}: is a binary file")
        except OSError as e:
            raise ToolError(f"{path}: {e.strerror}") from e

    def read(self, path: Path) -> str:
        """The text of a file. Raises ToolError."""
        self.check_readable(path)
        try:
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as e:
            raise ToolError(f"{path}: is not UTF-8 text") from e
        except OSError as e:
            raise ToolError(f"{path}: {e.strerror}") from e

    def check_writable(self, path: Path) -> None:
        """Raises ToolError where a file cannot stand there."""
        if path == self.root or path.is_dir():
            raise ToolError(f"{path}: is a folder")
        if path.exists() and not path.is_file():
            raise ToolError(f"{path}: is no plain file")

    def write(self, path: Path, text: str) -> None:
        """Whole or not at all; folders are made as needed, the mode of an older file is kept. Raises ToolError."""
        self.check_writable(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else None
            beside = path.parent / f".{uuid.uuid4().hex}.tmp"
            try:
                with beside.open("x", encoding="utf-8", newline="") as file:
                    file.write(text)
                if mode is not None:
                    beside.chmod(mode)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        except (OSError, UnicodeEncodeError) as e:
            raise ToolError(f"{path}: cannot be written: {e}") from e

    def list_dir(self, path: Path) -> str:
        """One name a line, folders with a slash. Raises ToolError."""
        try:
            with os.scandir(path) as found:
                names = sorted(e.name + ("/" if e.is_dir() else "") for e in found)
        except OSError as e:
            raise ToolError(f"{path}: {e.strerror}") from e
        more = [f"… and {len(names) - MAX_ENTRIES} more"] if len(names) > MAX_ENTRIES else []
        return "\n".join([*names[:MAX_ENTRIES], *more]) or "(empty)"

    def search(self, text: object, path: Path) -> str:
        """``FILE:LINE: text`` of each line with ``text`` in it, literally; links are not followed. Raises ToolError."""
        if not isinstance(text, str) or not text:
            raise ToolError("text must not be empty")
        if not path.exists():
            raise ToolError(f"{path}: does not exist")
        until = time.monotonic() + SEARCH_S
        hits: list[str] = []
        for file in [path] if path.is_file() else _files(path):
            if time.monotonic() > until:
                hits.append(f"… stopped after {SEARCH_S:.0f} s")
                break
            if len(hits) >= MAX_HITS:
                hits.append(f"… stopped after {MAX_HITS} lines")
                break
            hits += self._hits(file, text, MAX_HITS - len(hits))
        return "\n".join(hits) or "(nothing found)"

    def _hits(self, file: Path, text: str, most: int) -> list[str]:
        try:
            lines = self.read(file).split("\n")
        except ToolError:  # no text: nothing to be found in it
            return []
        found = [f"{file.relative_to(self.root)}:{n}: {line[:300]}" for n, line in enumerate(lines, 1) if text in line]
        return found[:most]


def _files(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        yield from (path for name in sorted(names) if not (path := Path(at) / name).is_symlink())


def bounded(text: str) -> str:
    """At most ``MAX_OUTPUT_CHARS``: the beginning and the end. What no encoding can carry becomes a question mark."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= MAX_OUTPUT_CHARS:
        return text
    half = MAX_OUTPUT_CHARS // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
