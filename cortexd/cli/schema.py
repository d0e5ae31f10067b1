"""``cortexd schema``: what editors complete the two files from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("schema")
@click.argument("file", type=click.Choice(["fleet", "models"]))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it there instead of printing it.")
def schema_command(file: str, out: Path | None) -> None:
    """Print the JSON Schema of fleet.toml or models.toml.

    Editors with support for TOML (Even Better TOML, Taplo) complete and check keys from it: name it in the first line
    of the file, as in `#:schema ./fleet.schema.json`.
    """
    import json

    from compiler.schema.json_schema import json_schema

    text = json.dumps(json_schema(file), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as e:
        raise click.ClickException(f"cannot write {out}: {e.strerror or e}") from None
    click.echo(f"wrote {out}")
