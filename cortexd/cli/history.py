"""``cortexd history``: what was applied, when and how it went."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import site_options

if TYPE_CHECKING:
    from cortexd.deploy.rows import Switched
    from cortexd.deploy.site import Site

STYLE = {"live": "green", "failed": "red", "applying": "yellow"}


@click.command("history")
@site_options
@click.option("--json", "as_json", is_flag=True, help="A JSON list, the oldest first.")
def history_command(site: Site, as_json: bool) -> None:
    """Show each switch of the live generation, the newest first: when, from what, to what, how long, and why it failed.

    KIND is apply, rollback, or return (an apply that was not ready went back by itself).
    """
    from cortexd.deploy.history import read_history

    entries = read_history(site)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif not entries:
        click.echo("nothing was applied yet; `cortexd apply` does")
    else:
        _table(entries[::-1])


def _table(entries: list[Switched]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("VERSION", "WHEN", "KIND", "STATE", "FROM", "TO", "TOOK"):
        table.add_column(name, no_wrap=True)
    for entry in entries:
        when = datetime.fromtimestamp(entry.applied_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        took = "-" if entry.finished_at is None else f"{entry.finished_at - entry.applied_at:.1f} s"
        short = [(name or "-")[:12] for name in (entry.previous, entry.generation)]
        cells = [str(entry.version), when, entry.kind, entry.state, *short, took]
        table.add_row(*(Text(cell, style=STYLE.get(cell, "")) for cell in cells))
    Console(highlight=False).print(table)
    for entry in entries:
        if entry.error:
            lines = entry.error.splitlines()
            more = " … (--json has all of it)" if len(lines) > 1 else ""
            click.echo(f"version {entry.version} failed: {lines[0]}{more}")
