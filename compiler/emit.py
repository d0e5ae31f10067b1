"""Phase 6, the only one that writes: a plan becomes ``OUT/<hash>/``, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.emitters.database import write_database
from compiler.emitters.files import render_files
from compiler.ir import PlacedFleet
from compiler.plan import Plan
from compiler.rows import MANIFEST_SCHEMA, generation_hash


@dataclass(frozen=True, slots=True)
class Emitted:
    """A generation on disk: its hash, its folder, and every file in it with its size."""

    generation: str
    folder: Path
    files: Mapping[str, int]


def emit(placed: PlacedFleet, planned: Plan, out: Path) -> Emitted:
    """Write the generation. The same input gives the same bytes. Raises OSError if ``out`` cannot be written."""
    rendered = render_files(placed)
    generation = generation_hash(planned.desired, rendered)
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=out))
    try:
        for name, data in rendered.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        write_database(staging / "fleet.db", generation, planned.desired)
        manifest = _manifest(staging, generation, placed, planned)
        (staging / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        staging.chmod(0o755)
        folder = out / generation
        _swap_in(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _write_latest(out, generation)
    return Emitted(generation, folder, {name: entry["bytes"] for name, entry in manifest["files"].items()})


def _manifest(staging: Path, generation: str, placed: PlacedFleet, planned: Plan) -> dict[str, Any]:
    files = {}
    for path in sorted(p for p in staging.rglob("*") if p.is_file()):
        data = path.read_bytes()
        name = path.relative_to(staging).as_posix()
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return {
        "schema": MANIFEST_SCHEMA,
        "generation": generation,
        "fleet": placed.fleet.name,
        "compiler_version": planned.desired["generation"][0]["compiler_version"],
        "gateway_host": placed.fleet.gateway_host,
        "files": files,
    }


def _swap_in(staging: Path, folder: Path) -> None:
    """A folder of that name has the same content, unless somebody changed it: then ours replaces it."""
    if folder.exists():
        if _content(folder) == _content(staging):
            return
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=folder.parent))
        folder.rename(old / "was")
        staging.rename(folder)
        shutil.rmtree(old)
    else:
        staging.rename(folder)


def _content(folder: Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).digest() for p in paths}


def _write_latest(out: Path, generation: str) -> None:
    temporary = out / f".latest-{generation[:12]}"
    temporary.write_text(generation + "\n", encoding="ascii")
    temporary.replace(out / "latest")
