"""``cortexd import``: the configuration of another gateway as fleet.toml and models.toml."""

from __future__ import annotations

import json
from pathlib import Path

import click

FILES = ("fleet.toml", "models.toml")


@click.command("import")
@click.argument("kind", type=click.Choice(["helexa", "litellm", "llama-swap"]))
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder for fleet.toml and models.toml.  [default: the current one]",
)
@click.option("--force", is_flag=True, help="Overwrite the two files.")
@click.option("--json", "as_json", is_flag=True, help="Tell what was done as JSON, on standard output.")
def import_command(kind: str, files: tuple[Path, ...], out: Path, force: bool, as_json: bool) -> None:
    """Write fleet.toml and models.toml from the configuration of another gateway.

    \b
    helexa      cortex.toml [models.toml] [neuron.toml …]
    litellm     config.yaml …
    llama-swap  config.yaml …

    What could not be carried over stands in the files as comments, and is listed. Secrets are not copied: the lines
    name the environment variables that should hold them.
    """
    from compiler.importers.run import run
    from compiler.importers.tree import ImportFailed

    targets = [out / name for name in FILES]
    if not force and (there := [str(t) for t in targets if t.exists() or t.is_symlink()]):
        raise click.ClickException(f"{' and '.join(there)}: there already; --force overwrites, --out names a folder")
    try:
        imported = run(kind, [(str(path), _read(path)) for path in files])
    except ImportFailed as e:
        raise click.ClickException(str(e)) from None
    _write(dict(zip(targets, (imported.fleet, imported.models), strict=True)))
    if as_json:
        answer = {"files": [str(t) for t in targets], "notes": [note.as_json() for note in imported.notes]}
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False, default=str))
        return
    for note in imported.notes:
        click.echo(str(note), err=True)
    counts = {kind: sum(n.kind == kind for n in imported.notes) for kind in ("to do", "guess", "left out")}
    summary = ", ".join(f"{count} {what}" for what, count in counts.items())
    click.echo(f"wrote {' and '.join(str(t) for t in targets)} ({summary}); next: edit them, then `cortexd compile`")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        line = e.object.count(b"\n", 0, e.start) + 1
        raise click.ClickException(f"{path}:{line}: not UTF-8: byte 0x{e.object[e.start]:02x}") from None
    except OSError as e:
        raise click.ClickException(f"{path}: {e.strerror or e}") from None


def _write(texts: dict[Path, str]) -> None:
    """Both, by a rename each, so that no half file is ever there."""
    for target, text in texts.items():
        temporary = target.with_name(f".{target.name}.new")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise click.ClickException(f"{target}: {e.strerror or e}") from None
