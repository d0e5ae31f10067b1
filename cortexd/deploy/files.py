"""What apply keeps in the state folder of the gateway host, safe on disk: whole generations, and the intent.

``STATE/archive/<hash>`` is the compiled folder of a generation with the files of every host, so that each of the last
ones can be brought back byte for byte, everywhere, without its sources.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cortexd.deploy.errors import ApplyError
from cortexd.deploy.generation import CompiledGeneration, load_generation
from cortexd.deploy.host.durable import FILE_MODE, FOLDER_MODE, sync_folder, write_file
from cortexd.deploy.site import Site

ARCHIVE = "archive"
INTENT = "apply.json"
_INTENT_SCHEMA = 1
_OURS = re.compile(r"([0-9a-f]{64}|\.staging-\w+)\Z")


def archived(site: Site, generation: str) -> Path:
    """Where the compiled folder of a generation is kept, whether it is there or not."""
    return site.folder / ARCHIVE / generation


def archive(site: Site, generation: CompiledGeneration) -> None:
    """Keep the compiled folder, whole or not at all. Raises OSError; ApplyError if it changed while it was copied."""
    target = archived(site, generation.hash)
    if generation.folder.absolute() == target.absolute() or _kept(target, generation.hash):
        return
    target.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    _check_own(site, target.parent)
    sync_folder(site.folder)
    for leftover in target.parent.glob(".staging-*"):  # of an apply that was killed; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=target.parent))
    try:
        for path in sorted(p for p in generation.folder.rglob("*") if p.is_file()):
            copy = staging / path.relative_to(generation.folder)
            copy.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _write_new(copy, path.read_bytes())
        for folder in [*(p for p in staging.rglob("*") if p.is_dir()), staging]:
            folder.chmod(FOLDER_MODE)
            sync_folder(folder)
        if load_generation(staging).hash != generation.hash:
            raise ApplyError(f"{generation.folder} changed while it was read; nothing was applied")
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_archived(site: Site, generation: str) -> CompiledGeneration:
    """A generation that was applied here before, verified. Raises ApplyError if it is not there or was changed.

    Root installs units from there, while the folder around it belongs to the user of the daemons: so in root's modes
    only files of root are believed.
    """
    folder = archived(site, generation)
    if folder.parent.exists():
        _check_own(site, folder.parent)
    if not folder.is_dir():
        raise ApplyError(
            f"generation {generation[:12]} is not kept in {folder.parent}; compile it from its sources and apply it"
        )
    for path in (folder, *folder.rglob("*")):
        _check_own(site, path)
    loaded = load_generation(folder)
    if loaded.hash != generation:
        raise ApplyError(f"{folder} holds generation {loaded.hash[:12]}; compile again and apply")
    return loaded


def prune_archive(site: Site, keep: Iterable[str]) -> None:
    """Delete the kept generations that are not in ``keep``, and what killed applies left. Raises ApplyError."""
    wanted = set(keep)
    folder = site.folder / ARCHIVE
    if folder.is_dir():
        _check_own(site, folder)
        for entry in folder.iterdir():
            if entry.name not in wanted and _OURS.match(entry.name):
                shutil.rmtree(entry, ignore_errors=True)


def write_intent(site: Site, intent: Mapping[str, Any]) -> None:
    """Say durably what is about to happen, before it does."""
    text = json.dumps({"schema": _INTENT_SCHEMA, **intent}, indent=2, sort_keys=True) + "\n"
    write_file(site.folder / INTENT, text.encode("utf-8"), mode=0o644)  # daemons look at it when they start


def read_intent(folder: Path) -> dict[str, Any] | None:
    """What an apply that did not end had begun; None when there is no such thing. Raises ApplyError."""
    path = folder / INTENT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != _INTENT_SCHEMA or not all(isinstance(found[k], str) for k in ("to", "mode", "state_dir")):
            raise ValueError
        return dict(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as e:
        reason = f": {e.strerror}" if isinstance(e, OSError) else " cannot be read as what `cortexd apply` writes"
        raise ApplyError(f"{path}{reason}; delete it and run `cortexd apply` again") from None


def forget_intent(site: Site) -> None:
    """Nothing is under way any more."""
    (site.folder / INTENT).unlink(missing_ok=True)
    sync_folder(site.folder)


def _check_own(site: Site, path: Path) -> None:
    """In root's modes: no link, and nobody else's. The folder around belongs to the daemons' user."""
    if site.mode in ("system", "image") and (path.is_symlink() or path.lstat().st_uid != os.geteuid()):
        raise ApplyError(f"{path} does not belong to the user that applies, so it is not used; move it away and apply")


def _kept(folder: Path, generation: str) -> bool:
    if not folder.is_dir():
        return False
    try:
        return load_generation(folder).hash == generation
    except ApplyError:
        return False


def _write_new(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
