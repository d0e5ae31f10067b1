"""Opening an artifact's folder: the manifest, and whether every file is what it says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cortexd.artifacts.store import SCHEME, Store, StoreError
from cortexd.protocol.manifest import Manifest

BUILTIN = Path(__file__).resolve().parent / "builtin"
MANIFEST = "manifest.json"


class ArtifactError(Exception):
    """An artifact that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact. ``sha256`` is that of its manifest, which names all the others."""

    folder: Path
    manifest: Manifest
    sha256: str


def locate(source: str, base: Path, store: Path | None = None) -> Path:
    """The folder of ``builtin:NAME``, of ``sha256:DIGEST`` in ``store``, or of a path that is relative to ``base``."""
    if source.startswith(SCHEME) and store is not None:
        try:
            return Store(store).folder(source.removeprefix(SCHEME))
        except StoreError as e:
            raise ArtifactError(str(e)) from e
    if source.startswith("builtin:"):
        return BUILTIN / source.removeprefix("builtin:")
    return base / source


def open_artifact(folder: Path, expected_sha256: str | None = None) -> Artifact:
    """Read the manifest and hash every file: call it off the event loop. Raises ArtifactError."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror or e}; is the artifact's folder right?") from e
    found = hashlib.sha256(text).hexdigest()
    if expected_sha256 is not None and found != expected_sha256:
        raise ArtifactError(
            f"{path}: sha256 is {found}, the configuration was compiled for {expected_sha256}; "
            "compile and apply again, or restore the artifact"
        )
    try:
        manifest = Manifest.from_json(text.decode("utf-8"))
    except ValueError as e:
        raise ArtifactError(f"{path}: {e}") from e
    for name, entry in sorted(manifest.files.items()):
        _verify(folder / name, name, entry.sha256)
    return Artifact(folder, manifest, found)


def _verify(path: Path, name: str, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as e:
        raise ArtifactError(f"{path}: {e.strerror or e}; the manifest names it: export or copy the model again") from e
    if found != expected:
        raise ArtifactError(f"{path}: sha256 of {name} is {found}, the manifest says {expected}; copy the model again")
