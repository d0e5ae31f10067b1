"""``cortexd compile``: two TOML files to a generation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command("compile")
@click.option(
    "--fleet", type=click.Path(path_type=Path), default=Path("fleet.toml"), show_default=True, help="The fleet."
)
@click.option(
    "--models", type=click.Path(path_type=Path), default=Path("models.toml"), show_default=True, help="The models."
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
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How findings are told.",
)
def compile_command(fleet: Path, models: Path, out: Path, output: str) -> None:
    """Check two TOML files, prove that everything fits, and write a generation.

    All mistakes are reported at once, with file, line, key and a hint; then the exit status is 1 and nothing is
    written.
    The same input gives the same bytes, in a folder named by their hash.
    """
    from compiler.diagnostics import as_json
    from compiler.pipeline import compile_files

    try:
        outcome = compile_files(fleet, models, out)
    except OSError as e:
        raise click.ClickException(f"cannot write {e.filename or out}: {e.strerror or e}") from None
    emitted = outcome.emitted
    if output == "json":
        answer = {
            "ok": emitted is not None,
            "generation": emitted.generation if emitted else None,
            "folder": str(emitted.folder) if emitted else None,
            "diagnostics": as_json(outcome.diagnostics),
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        click.echo(outcome.text(), nl=False, err=True)
        errors = sum(d.severity == "error" for d in outcome.diagnostics)
        if emitted:
            click.echo(f"compiled {len(emitted.files)} files into {emitted.folder}")
        else:
            click.echo(f"{errors} error{'s' if errors > 1 else ''}; nothing was written", err=True)
    if emitted is None:
        sys.exit(1)
