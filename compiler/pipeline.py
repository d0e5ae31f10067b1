"""The phases in order. With ``artifacts`` the only reader of the disk: the two files, and what they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compiler import codes
from compiler.artifacts import find_artifacts
from compiler.diagnostics import Diagnostic, Span, has_errors, render_text
from compiler.emit import Emitted, emit
from compiler.lock import LOCK_NAME, Lock, compare, read_lock, with_measured
from compiler.overrides import override, variables
from compiler.parse import parse
from compiler.place import place
from compiler.plan import NOTHING, plan
from compiler.reach import unreachable
from compiler.resolve import resolve
from compiler.rows import desired_rows
from compiler.source import Source
from compiler.validate import validate
from cortexd import __version__


@dataclass(frozen=True, slots=True)
class Outcome:
    """``emitted`` is None if there was an error. ``sources`` (file name -> lines) are for the excerpts."""

    emitted: Emitted | None
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, list[str]] = field(repr=False)

    def text(self) -> str:
        """The diagnostics for a terminal; empty if there are none."""
        return render_text(self.diagnostics, self.sources)


def compile_files(
    fleet_path: Path,
    models_path: Path,
    out: Path,
    environment: Mapping[str, str] | None = None,
    lock_path: Path | None = None,
    store: Path = Path("var/artifacts"),
) -> Outcome:
    """Compile two files into ``out``. Mistakes are diagnostics; raises OSError only if ``out`` cannot be written.

    ``environment``: variables that may override values of the fleet (``compiler.overrides``). ``lock_path``: what the
    neurons were found to be; unless given, ``fleet.lock`` beside the fleet, if it is there. ``store``: where pulled
    artifacts lie.
    """
    fleet, found = _read(fleet_path)
    fleet, more = override(fleet, environment or {})
    found += more
    models, more = _read(models_path)
    found += more
    declared, more = validate(fleet, models)
    found += more
    artifacts = find_artifacts([item.value for item in declared.models], models_path, store)
    resolved, more = resolve(declared, artifacts, fleet, models)
    found += more
    found += unreachable(resolved, fleet)
    lock_source, lock, more = _read_lock(lock_path, fleet_path)
    found += more
    if lock_source is None or lock is not None:
        found += compare(resolved, lock, fleet)
    if lock is not None:
        resolved = with_measured(resolved, lock)
    # A model that was left out cannot make the others fit less, so what place says then is true all the same; a device
    # that was left out could.
    placed, unplaced = place(resolved, models)
    if declared.fleet_complete:
        found += unplaced
    sources = {source.name: source.lines for source in (fleet, models, lock_source) if source is not None}
    sources |= {variable.file: variable.lines for variable in variables(environment or {})}
    diagnostics = tuple(sorted(found, key=lambda d: d.order))
    if has_errors(diagnostics):
        return Outcome(None, diagnostics, sources)
    planned = plan(desired_rows(placed, __version__), NOTHING)
    return Outcome(emit(placed, planned, out), diagnostics, sources)


def _read_lock(given: Path | None, fleet: Path) -> tuple[Source | None, Lock | None, list[Diagnostic]]:
    """The lock if there is one (no source: none), and what is wrong with it."""
    path = given or fleet.with_name(LOCK_NAME)
    if given is None and not path.exists():
        return None, None, []
    source, found = _read(path)
    lock, more = read_lock(source)
    return source, lock, found + more


def _read(path: Path) -> tuple[Source, list[Diagnostic]]:
    name = str(path)
    hint = None
    try:
        return parse(name, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = "no such file"
        hint = f"copy {path.name}.example, or name another file with --{path.stem}"
        if path.suffix == ".lock":
            hint = "`cortexd discover` writes it"
    except UnicodeDecodeError as e:
        before = e.object[: e.start].split(b"\n")
        span = Span(name, len(before), len(before[-1].decode(errors="replace")) + 1)
        message = f"not UTF-8: here is a byte 0x{e.object[e.start]:02x}"
        text = e.object.decode(errors="replace")
        found = Diagnostic(codes.CANNOT_READ, "error", message, span, (), "save it as UTF-8")
        return Source(name, text), [found]
    except OSError as e:
        message = e.strerror or str(e)
    return Source(name, ""), [Diagnostic(codes.CANNOT_READ, "error", message, Span(name, 1, 1), (), hint)]
