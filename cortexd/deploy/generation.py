"""A generation's folder, verified: every file is the one that was compiled, and the name is the hash of the content."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.rows import KEYS, MANIFEST_SCHEMA, Row, Tables, generation_hash, sort_rows
from cortexd.deploy.errors import ApplyError

_AGAIN = "compile again"


@dataclass(frozen=True, slots=True)
class CompiledGeneration:
    """``files`` maps a path below ``folder`` to its content, without fleet.db; ``tables`` is what fleet.db holds."""

    hash: str
    folder: Path
    gateway_host: str
    files: dict[str, bytes]
    tables: Tables

    def host_files(self, host: str) -> dict[str, bytes]:
        """What belongs on a host, by path below its folder."""
        prefix = f"hosts/{host}/"
        return {name.removeprefix(prefix): data for name, data in self.files.items() if name.startswith(prefix)}

    @property
    def hosts(self) -> list[str]:
        """Hosts that get files."""
        return sorted({name.split("/")[1] for name in self.files if name.startswith("hosts/")})


def find_generation(given: Path | None, build: Path) -> Path:
    """The folder that was named, or the latest below ``build``. Raises ApplyError if there is none."""
    if given is not None:
        if not (given / "manifest.json").is_file():
            raise ApplyError(
                f"{given} is no generation: it has no manifest.json; `cortexd compile` writes one below build/"
            )
        return given
    try:
        latest = (build / "latest").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ApplyError(
            f"{build}/latest does not exist; run `cortexd compile` first, or name a generation's folder"
        ) from None
    if not (build / latest / "manifest.json").is_file():
        raise ApplyError(f"{build}/latest names {latest}, which is not there; {_AGAIN}")
    return build / latest


def load_generation(folder: Path) -> CompiledGeneration:
    """Read everything and check it against manifest.json and the generation's own hash. Raises ApplyError."""
    manifest = _manifest(folder)
    listed: dict[str, Any] = manifest["files"]
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    wrong = [f"{name} is not in manifest.json" for name in sorted(present - set(listed))]
    files: dict[str, bytes] = {}
    for name in sorted(listed):
        if name not in present:
            wrong.append(f"{name} is missing")
            continue
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != listed[name]["sha256"]:
            wrong.append(f"{name} is not what was compiled (its sha256 differs)")
        if name != "fleet.db":
            files[name] = data
    if "fleet.db" not in listed:
        wrong.append("fleet.db is not in manifest.json")
    if wrong:
        raise ApplyError(
            f"{folder} was changed after it was compiled, so nothing was applied; {_AGAIN}:\n  " + "\n  ".join(wrong)
        )
    tables = _tables(folder / "fleet.db", manifest["generation"])
    if generation_hash(tables, files) != manifest["generation"]:
        raise ApplyError(
            f"{folder}: the content does not have the hash that names it, so nothing was applied; {_AGAIN}"
        )
    return CompiledGeneration(manifest["generation"], folder, manifest["gateway_host"], files, tables)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema"] != MANIFEST_SCHEMA:
            raise ApplyError(f"{path} has schema {manifest['schema']}; this version reads {MANIFEST_SCHEMA}; {_AGAIN}")
        if not all(isinstance(manifest[key], str) for key in ("generation", "gateway_host")):
            raise TypeError
        for name, entry in manifest["files"].items():
            if name.startswith("/") or ".." in name.split("/") or not isinstance(entry["sha256"], str):
                raise ValueError
    except OSError as e:
        raise ApplyError(f"{path}: {e.strerror}; {_AGAIN}") from e
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ApplyError(f"{path} is not the manifest of a generation; {_AGAIN}") from None
    return dict(manifest)


def _tables(path: Path, generation: str) -> Tables:
    """The rows of fleet.db, read without SQLAlchemy: a host that pulls has none. Column types are as declared."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return {name: _rows(connection, name, generation) for name in KEYS}
    except sqlite3.Error as e:
        raise ApplyError(f"{path} cannot be read: {e}; {_AGAIN}") from e
    except ValueError:
        raise ApplyError(f"{path} holds something that is no JSON; {_AGAIN}") from None


def _rows(connection: sqlite3.Connection, table: str, generation: str) -> tuple[Row, ...]:
    """Those of one generation, without the column that names it."""
    owner = "hash" if table == "generation" else "generation"
    columns = {row["name"]: row["type"] for row in connection.execute(f"PRAGMA table_info({table})")}
    rows: list[Row] = []
    for row in connection.execute(f"SELECT * FROM {table} WHERE {owner} = ?", (generation,)):  # noqa: S608 - our names
        rows.append({name: _value(kind, row[name]) for name, kind in columns.items() if name != owner})
    return sort_rows(table, rows)


def _value(kind: str, stored: Any) -> Any:
    if stored is None:
        return None
    return json.loads(stored) if kind == "JSON" else bool(stored) if kind == "BOOLEAN" else stored
