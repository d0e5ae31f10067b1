"""``cortexd usage``."""

from __future__ import annotations

import csv
import json
import sys
import time
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cortexd.cli.options import database_option, live_database, state_dir_option, user_option

if TYPE_CHECKING:
    from cortexd.store.usage import UsageSum

_HEADINGS = (
    "requests", "errors", "left", "cold", "tokens in", "cached", "tokens out", "first token", "tokens/s",
)  # fmt: skip
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Unix seconds of ``2h`` (ago), a date, or a date with time (UTC unless it says otherwise)."""
    if value is None:
        return None
    if value[-1:] in _UNITS and value[:-1].isdigit():
        return time.time() - int(value[:-1]) * _UNITS[value[-1]]
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        known = "a time ago (30m, 12h, 7d) nor a date (2026-01-31, 2026-01-31T12:00)"
        raise click.BadParameter(f"{value!r} is neither {known}") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@click.command("usage")
@state_dir_option
@user_option
@database_option
@click.option("--by", type=click.Choice(["model", "key", "account", "day"]), default="model", show_default=True)
@click.option(
    "--since", metavar="WHEN", callback=_moment, help="Only requests that started then or later: 12h, 7d, 2026-01-31."
)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def usage_command(state_dir: Path, database: str | None, by: str, since: float | None, form: str) -> None:
    """Show requests and tokens, summed by model, key, account or day (UTC)."""
    from cortexd.store.connect import connect
    from cortexd.store.usage import report

    engine = connect(live_database(state_dir, database))
    with engine.connect() as connection:
        sums = report(connection, by, since)  # type: ignore[arg-type]  # click checked the choice
    if form == "json":
        click.echo(json.dumps([{by if k == "group" else k: v for k, v in asdict(s).items()} for s in sums], indent=2))
    elif form == "csv":
        _csv(by, sums)
    else:
        _table(by, sums)


def _csv(by: str, sums: list[UsageSum]) -> None:
    from cortexd.store.usage import UsageSum

    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = [f.name for f in fields(UsageSum)]
    writer.writerow([by, *names[1:]])
    writer.writerows([getattr(s, name) for name in names] for s in sums)


def _table(by: str, sums: list[UsageSum]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not sums:
        click.echo("No request is in the ledger for that time.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(by, overflow="fold", min_width=min(40, max(len(s.group) for s in sums)))
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for s in sums:
        tokens = (s.prompt_tokens, s.cached_tokens, s.completion_tokens)
        counts = (s.requests, s.errors, s.cancelled, s.cold_starts, *tokens)
        ttft = "-" if s.ttft_s is None else f"{s.ttft_s:.2f} s"
        rate = "-" if s.tokens_per_second is None else f"{s.tokens_per_second:.1f}"
        table.add_row(s.group, *(f"{n:,}" for n in counts), ttft, rate)
    # Nobody sees the width of a pipe: no column is squeezed there.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
