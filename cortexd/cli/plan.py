"""``cortexd plan``: what an apply would change, and what that costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import build_option, site_options

if TYPE_CHECKING:
    from cortexd.deploy.site import Site

CHANGES = 2


@click.command("plan")
@click.argument("generation_dir", type=click.Path(path_type=Path), required=False)
@site_options
@build_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a plan file for `apply --plan`.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def plan_command(generation_dir: Path | None, site: Site, build: Path, out: Path | None, as_json: bool) -> None:
    """Show what `cortexd apply` would change in rows and files, and its price.

    GENERATION_DIR is a folder that `cortexd compile` wrote; the latest one unless given. The price: units that restart,
    models that move, requests in flight that are touched. Exit status: 0 nothing to change, 2 changes, 1 an error.
    Changes nothing, but it finishes an apply that was interrupted.
    """
    from rich.console import Console

    from cortexd.cli.show import show_plan
    from cortexd.deploy.apply import finish
    from cortexd.deploy.generation import find_generation, load_generation
    from cortexd.deploy.planning import make_plan, plan_json

    generation = load_generation(find_generation(generation_dir, build))
    for note in finish(site):
        click.echo(note, err=True)
    made = make_plan(generation, site)
    text = json.dumps(plan_json(made), indent=2, sort_keys=True)
    if out is not None:
        try:
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as e:
            raise click.ClickException(f"{out}: {e.strerror}") from None
    if as_json:
        click.echo(text)
    else:
        show_plan(made, Console(highlight=False))
    sys.exit(0 if made.nothing else CHANGES)
