"""``fleet.toml`` and ``fleet.lock`` on disk, for the commands that write the lock."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from compiler.diagnostics import render_text
from compiler.lock import Lock, read_lock, render_lock
from compiler.overrides import override
from compiler.parse import parse
from compiler.source import Source
from compiler.validate import validate
from cortexd.discovery.ask import Target


class FileError(Exception):
    """A file cannot be used; the message is one or more lines for the user."""


def read_targets(path: Path, environment: Mapping[str, str]) -> list[Target]:
    """The neurons that a fleet declares. Raises FileError for a fleet whose neurons cannot be read."""
    source, found = parse(str(path), _read(path, f"copy {path.name}.example, or name another file with --fleet"))
    source, more = override(source, environment)
    declared, wrong = validate(source, Source("models.toml", ""))
    problems = [d for d in (*found, *more, *wrong) if d.severity == "error"]
    if not declared.fleet_complete:
        raise FileError(render_text(problems, {source.name: source.lines}).rstrip("\n"))
    return [Target(i.value.name, i.value.endpoint, i.value.token_file) for i in declared.neurons]


def load_lock(path: Path) -> Lock:
    """The lock; an empty one if there is no file. Raises FileError for a file that is no lock."""
    if not path.exists():
        return Lock()
    source, found = parse(str(path), _read(path, ""))
    lock, more = read_lock(source)
    if lock is None:
        text = render_text([*found, *more], {source.name: source.lines})
        raise FileError(f"{text}{path} cannot be used; remove it, and `cortexd discover` writes a new one")
    return lock


def save_lock(path: Path, lock: Lock) -> bool:
    """Write it, whole or not at all, if it differs. Returns whether it did. Raises FileError."""
    text = render_lock(lock)
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except (OSError, UnicodeDecodeError) as e:
        raise FileError(f"cannot write {path}: {getattr(e, 'strerror', None) or e}") from None
    return True


def _read(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; {hint}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not UTF-8") from None
    except OSError as e:
        raise FileError(f"{path}: {e.strerror or e}") from None
