"""What the sources of models name: folders, built-in artifacts, and what was pulled into the store. Reads the disk."""

from __future__ import annotations

import hashlib
import importlib.util
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from compiler import codes
from compiler.diagnostics import did_you_mean
from compiler.ir import Artifact, ArtifactProblem
from compiler.schema.models import ModelSection
from cortexd.artifacts.lockfile import NAME as LOCK_NAME
from cortexd.artifacts.lockfile import Locked, LockError, find, read_lock
from cortexd.artifacts.store import MANIFEST, SCHEME, Store
from cortexd.protocol.manifest import Manifest


def find_artifacts(models: Iterable[ModelSection], models_path: Path, store: Path) -> dict[str, Artifact]:
    """By ``ModelSection.wanted``. Sources from elsewhere are found through models.lock, beside the models file."""
    lock = models_path.with_name(LOCK_NAME)
    locked: list[Locked] = []
    broken: ArtifactProblem | None = None
    wanted = {model.wanted: model for model in models}
    if any(model.from_elsewhere for model in wanted.values()):
        try:
            locked = read_lock(lock)
        except LockError as e:
            broken = ArtifactProblem(codes.NO_ARTIFACT, str(e), f"restore {lock}, or remove it and pull again")
    found = {}
    for key, model in wanted.items():
        if not model.from_elsewhere:
            found[key] = read_artifact(model.source, models_path.parent)
        elif broken is not None:
            found[key] = Artifact(model.source, problems=(broken,))
        else:
            found[key] = _pulled(model.source, model.precision, locked, lock, store)
    return found


def read_artifact(source: str, base: Path) -> Artifact:
    """Look at what ``builtin:NAME`` or ``path:DIR`` names: each file must be there with the bytes of its manifest."""
    kind, _, rest = source.partition(":")
    if kind == "builtin":
        folder, location = _builtin_root() / rest, source
    else:
        folder = (base / rest).resolve()
        location = str(folder)
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as e:
        return Artifact(location, problems=(_missing(kind, rest, folder, e),))
    return _read(folder, location, data, check=True)


def _pulled(source: str, precision: str | None, locked: Iterable[Locked], lock: Path, store: Path) -> Artifact:
    """What ``hf:`` or ``http(s):`` was when it was pulled. Its files were checked when they came into the store."""
    command = f"cortexd model pull {shlex.quote(source)}" + (f" --precision {precision}" if precision else "")
    if lock.name != LOCK_NAME or lock.parent != Path():
        command += f" --models-lock {shlex.quote(str(lock))}"
    entry = find(locked, source, precision)
    if entry is None:
        problem = ArtifactProblem(codes.NO_ARTIFACT, f"{source} was not pulled: {lock} does not name it", command)
        return Artifact(source, problems=(problem,))
    location = f"{SCHEME}{entry.manifest_sha256}"
    folder = Store(store).folder(entry.manifest_sha256)
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError:
        message = f"{source} was pulled elsewhere: {folder} is not there"
        return Artifact(location, problems=(ArtifactProblem(codes.NO_ARTIFACT, message, command),))
    artifact = _read(folder, location, data, check=False)
    if artifact.manifest is not None and artifact.manifest_sha256 != entry.manifest_sha256:
        message = f"{folder}/{MANIFEST} has sha256 {artifact.manifest_sha256}"
        return Artifact(
            location, problems=(ArtifactProblem(codes.FILE_CHANGED, message, f"remove {folder}, then {command}"),)
        )
    return artifact


def _read(folder: Path, location: str, data: bytes, check: bool) -> Artifact:
    manifest_path = folder / MANIFEST
    try:
        manifest = Manifest.from_json(data.decode("utf-8"))
        _check_numbers(manifest)
    except ValueError as e:
        problem = ArtifactProblem(codes.BAD_MANIFEST, f"{manifest_path}: {e}", "make the artifact again")
        return Artifact(location, problems=(problem,))
    problems = [p for name in sorted(manifest.files) if check and (p := _check_file(folder, name, manifest))]
    if manifest.graph not in manifest.files:
        problems.append(
            ArtifactProblem(codes.BAD_MANIFEST, f"{manifest_path}: graph {manifest.graph} is not among its files")
        )
    return Artifact(location, manifest, hashlib.sha256(data).hexdigest(), tuple(problems))


def _builtin_root() -> Path:
    """Where this installation's own artifacts lie, without importing the neuron."""
    spec = importlib.util.find_spec("neuron")
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0] if locations else "/nonexistent") / "artifacts" / "builtin"


def _missing(kind: str, name: str, folder: Path, error: OSError) -> ArtifactProblem:
    if folder.is_dir():
        return ArtifactProblem(codes.NO_ARTIFACT, f"{folder} is no artifact: manifest.json: {error.strerror}")
    if kind == "builtin":
        root = folder.parent
        names = [p.name for p in root.iterdir() if (p / "manifest.json").exists()] if root.is_dir() else []
        hint = did_you_mean(name, names) or "this installation has none; install it again"
        return ArtifactProblem(codes.NO_ARTIFACT, f"there is no built-in artifact `{name}`", hint)
    hint = "DIR is relative to the models file; `cortexd model export` writes such a folder"
    return ArtifactProblem(codes.NO_ARTIFACT, f"there is no folder {folder}", hint)


def _check_numbers(manifest: Manifest) -> None:
    """What memory is proven with must be usable numbers. Raises ValueError."""
    for name in ("context", "weight_bytes", "kv_bytes_per_token"):
        value = getattr(manifest, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < (1 if name == "context" else 0):
            raise ValueError(f"{name} is not a usable number")
    if manifest.task not in ("chat", "embed"):
        raise ValueError(f"task {manifest.task!r} is neither chat nor embed")


def _check_file(folder: Path, name: str, manifest: Manifest) -> ArtifactProblem | None:
    again = "copy it again, or make the artifact again"
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        return ArtifactProblem(codes.BAD_MANIFEST, f"{folder}/manifest.json: {name} lies outside of the artifact")
    path, want = folder / name, manifest.files[name]
    try:
        size = path.stat().st_size
        if size != want.bytes:
            return ArtifactProblem(
                codes.FILE_CHANGED, f"{path} has {size} bytes, its manifest says {want.bytes}", again
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ArtifactProblem(codes.FILE_MISSING, f"{path} is missing", again)
    except OSError as e:
        return ArtifactProblem(codes.FILE_MISSING, f"{path}: {e.strerror}", again)
    if digest != want.sha256:
        message = f"{path} has sha256 {digest}, its manifest says {want.sha256}"
        return ArtifactProblem(codes.FILE_CHANGED, message, again)
    return None
