"""``models.lock``, beside models.toml: what each source from elsewhere was when it was pulled.

So compiling needs no network, and the same files mean the same artifacts on every machine.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cortexd.artifacts.store import is_digest

NAME = "models.lock"
_HEAD = "# Written by `cortexd model pull`; keep it with models.toml.\n"


class LockError(Exception):
    """A lock file that cannot be read; the message names it and what is wrong."""


@dataclass(frozen=True, slots=True, order=True)
class Locked:
    """``source`` as models.toml has it, in ``precision`` ("" for whatever it came in). ``resolved``: hub's commit."""

    source: str
    precision: str
    manifest_sha256: str
    resolved: str = ""


def read_lock(path: Path) -> list[Locked]:
    """The entries; none where there is no file. Raises LockError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise LockError(f"{path}: {getattr(e, 'strerror', None) or e}") from None
    entries = raw.get("artifacts", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise LockError(f"{path}: artifacts must be a list of tables")
    found = []
    for number, entry in enumerate(entries):
        known = {key: entry.get(key, "") for key in ("source", "precision", "manifest_sha256", "resolved")}
        if not all(isinstance(value, str) for value in known.values()) or not known["source"]:
            raise LockError(f"{path}: artifacts[{number}] is not as `cortexd model pull` writes it")
        if not is_digest(known["manifest_sha256"]):
            raise LockError(f"{path}: artifacts[{number}].manifest_sha256 is no SHA-256")
        found.append(Locked(**known))
    return found


def find(entries: Iterable[Locked], source: str, precision: str | None) -> Locked | None:
    """The entry for a model: in its precision, else the one that was pulled without naming any."""
    fitting = {entry.precision: entry for entry in entries if entry.source == source}
    return fitting.get(precision or "") or fitting.get("")


def record(path: Path, new: Locked) -> None:
    """Put an entry into the file, in place of the one for the same source and precision. Raises LockError, OSError."""
    kept = [e for e in read_lock(path) if (e.source, e.precision) != (new.source, new.precision)]
    blocks = [_HEAD]
    for entry in sorted([*kept, new]):
        values = {"source": entry.source, "precision": entry.precision, "manifest_sha256": entry.manifest_sha256}
        values["resolved"] = entry.resolved
        # JSON's escapes are TOML's
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value]
        blocks.append("[[artifacts]]\n" + "\n".join(lines) + "\n")
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text("\n".join(blocks), encoding="utf-8")
    temporary.replace(path)
