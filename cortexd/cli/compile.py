"""``cortexd compile``: two TOML files to a generation."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import state_dir_option, user_option

if TYPE_CHECKING:
    from compiler.emit import Emitted
    from compiler.pipeline import Outcome

# Exit statuses: the files are wrong; --check: the files are right, but OUT holds something else.
WRONG = 1
STALE = 2


@click.command("compile")
@click.option(
    "--fleet", type=click.Path(path_type=Path), default=Path("fleet.toml"), show_default=True, help="The fleet."
)
@click.option(
    "--models", type=click.Path(path_type=Path), default=Path("models.toml"), show_default=True, help="The models."
)
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="What `cortexd discover` found.  [default: fleet.lock beside the fleet, if it is there]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Where OUT/<hash>/ is written.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are told.",
)
@user_option
@state_dir_option
@click.option("--check", is_flag=True, help="Write nothing; status 2 unless OUT holds this generation as its latest.")
@click.option("--deny-warnings", is_flag=True, help="Warnings are errors.")
def compile_command(
    fleet: Path,
    models: Path,
    lock: Path | None,
    out: Path,
    output: str,
    state_dir: Path,
    check: bool,
    deny_warnings: bool,
) -> None:
    """Check two TOML files, prove that everything fits, and write a generation.

    All mistakes are reported at once, with file, line, key and a hint; then the exit status is 1 and nothing is
    written. The same input gives the same bytes, in a folder named by their hash.

    Models from the hub or a web server are those that `cortexd model pull` put into the state directory.

    Variables of the environment override values of the fleet: CORTEXD_GATEWAY__LISTEN stands for listen of [gateway].
    """
    with tempfile.TemporaryDirectory(prefix="cortexd-compile-") as scratch:
        # What is only to be checked, or may still be refused for its warnings, is written beside.
        aside = check or deny_warnings
        store = state_dir / "artifacts"
        outcome = _compile(fleet, models, lock, Path(scratch) if aside else out, store)
        emitted = outcome.emitted
        if deny_warnings and outcome.diagnostics:
            emitted = None
        elif aside and emitted is not None and not check:
            outcome = _compile(fleet, models, lock, out, store)
            emitted = outcome.emitted
        stale = _stale(emitted, out) if check and emitted is not None else None
        if output == "text":
            _tell(outcome, emitted, out, check, stale)
        else:
            click.echo(json.dumps(_report(outcome, emitted, output, check, stale), indent=2, ensure_ascii=False))
    if emitted is None:
        sys.exit(WRONG)
    if stale is not None:
        sys.exit(STALE)


def _compile(fleet: Path, models: Path, lock: Path | None, out: Path, store: Path) -> Outcome:
    from compiler.pipeline import compile_files

    try:
        return compile_files(fleet, models, out, os.environ, lock, store)
    except OSError as e:
        raise click.ClickException(f"cannot write {e.filename or out}: {e.strerror or e}") from None


def _stale(emitted: Emitted, out: Path) -> str | None:
    """Why ``out`` is not what was just compiled; None if it is."""
    latest = out / "latest"
    try:
        named = latest.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return f"{out} holds no generation"
    if named != emitted.generation:
        return f"the latest in {out} is {named[:12]}"
    changed = _difference(emitted.folder, out / named)
    return f"{out / named} was changed: {changed[0]}" if changed else None


def _difference(new: Path, old: Path) -> Sequence[str]:
    def content(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    right, there = content(new), content(old)
    return sorted(name for name in right.keys() | there.keys() if right.get(name) != there.get(name))


def _report(outcome: Outcome, emitted: Emitted | None, output: str, check: bool, stale: str | None) -> object:
    from compiler.diagnostics import as_json
    from compiler.sarif import as_sarif
    from cortexd import __version__

    if output == "sarif":
        return as_sarif(outcome.diagnostics, __version__)
    return {
        "ok": emitted is not None and stale is None,
        "generation": emitted.generation if emitted else None,
        "folder": str(emitted.folder) if emitted and not check else None,
        "stale": stale,
        "diagnostics": as_json(outcome.diagnostics),
    }


def _tell(outcome: Outcome, emitted: Emitted | None, out: Path, check: bool, stale: str | None) -> None:
    click.echo(outcome.text(), nl=False, err=True)
    if emitted is None:
        counts = [
            f"{n} {kind}{'s' if n > 1 else ''}"
            for kind in ("error", "warning")
            if (n := sum(d.severity == kind for d in outcome.diagnostics))
        ]
        click.echo(f"{' and '.join(counts)}; nothing was written", err=True)
    elif stale is not None:
        click.echo(f"generation {emitted.generation}: {stale}; run `cortexd compile`", err=True)
    elif check:
        click.echo(f"generation {emitted.generation} is the latest in {out}")
    else:
        click.echo(f"compiled {len(emitted.files)} files into {emitted.folder}")
