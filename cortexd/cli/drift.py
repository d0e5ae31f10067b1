"""``cortexd drift``: what is not as it was applied."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import site_options

if TYPE_CHECKING:
    from cortexd.deploy.site import Site

DRIFT = 2


@click.command("drift")
@site_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def drift_command(site: Site, as_json: bool) -> None:
    """Compare rows, files, units and what each neuron reports with what was applied, and name each difference.

    Exit status: 0 none, 2 differences, 1 an error. Changes nothing.
    """
    from cortexd.deploy.drift import drift

    found = drift(site)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False)
        for difference in found.differences:
            console.print(Text(str(difference), style="yellow"), soft_wrap=True)
        for host in found.by_hand:
            click.echo(f"{host} cannot be reached from here, so it was not looked at", err=True)
        if not found.differences:
            click.echo(f"no drift: all is as generation {found.generation[:12]} says")
    sys.exit(DRIFT if found.differences else 0)
