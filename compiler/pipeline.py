"""The phases in order, and the only reader of the disk: the two files and the artifacts that they name."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from compiler import codes
from compiler.diagnostics import Diagnostic, Span, did_you_mean, has_errors, render_text
from compiler.emit import Emitted, emit
from compiler.ir import Artifact, ArtifactProblem
from compiler.parse import parse
from compiler.place import place
from compiler.plan import NOTHING, plan
from compiler.resolve import resolve
from compiler.rows import desired_rows
from compiler.source import Source
from compiler.validate import validate
from cortexd import __version__
from cortexd.protocol.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Outcome:
    """``emitted`` is None if there was an error. ``sources`` (file name -> lines) are for the excerpts."""

    emitted: Emitted | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, list[str]] = field(repr=False)

    def text(self) -> str:
        """The diagnostics for a terminal; empty if there are none."""
        return render_text(self.diagnostics, self.sources)


def compile_files(fleet_path: Path, models_path: Path, out: Path) -> Outcome:
    """Compile two files into ``out``. Mistakes are diagnostics; raises OSError only if ``out`` cannot be written."""
    fleet, found = _read(fleet_path)
    models, more = _read(models_path)
    found += more
    declared, more = validate(fleet, models)
    found += more
    artifacts = {i.value.source: read_artifact(i.value.source, models_path.parent) for i in declared.models}
    resolved, more = resolve(declared, artifacts, fleet, models)
    found += more
    # A model that was left out cannot make the others fit less, so what place says then is true all the same; a device
    # that was left out could.
    placed, unplaced = place(resolved, models)
    if declared.fleet_complete:
        found += unplaced
    sources = {source.name: source.lines for source in (fleet, models)}
    diagnostics = tuple(sorted(found, key=lambda d: d.order))
    if has_errors(diagnostics):
        return Outcome(None, diagnostics, sources)
    planned = plan(desired_rows(placed, __version__), NOTHING)
    return Outcome(emit(placed, planned, out), diagnostics, sources)


def _read(path: Path) -> tuple[Source, list[Diagnostic]]:
    name = str(path)
    hint = None
    try:
        return parse(name, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = "no such file"
        hint = f"copy {path.name}.example, or name another file with --{path.stem}"
    except UnicodeDecodeError as e:
        message = f"not UTF-8: byte {e.start} is 0x{e.object[e.start]:02x}"
    except OSError as e:
        message = e.strerror or str(e)
    return Source(name, ""), [Diagnostic(codes.CANNOT_READ, "error", message, Span(name, 1, 1), (), hint)]


def read_artifact(source: str, base: Path) -> Artifact:
    """Look at what ``builtin:NAME`` or ``path:DIR`` names: each file must be there with the bytes of its manifest."""
    kind, _, rest = source.partition(":")
    if kind == "builtin":
        folder, location = _builtin_root() / rest, source
    else:
        folder = (base / rest).resolve()
        location = str(folder)
    manifest_path = folder / "manifest.json"
    try:
        data = manifest_path.read_bytes()
    except OSError as e:
        return Artifact(location, problems=(_missing(kind, rest, folder, e),))
    try:
        manifest = Manifest.from_json(data.decode("utf-8"))
        _check_numbers(manifest)
    except ValueError as e:
        problem = ArtifactProblem(codes.BAD_MANIFEST, f"{manifest_path}: {e}", "make the artifact again")
        return Artifact(location, problems=(problem,))
    problems = [p for name in sorted(manifest.files) if (p := _check_file(folder, name, manifest))]
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
