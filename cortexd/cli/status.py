"""``cortexd status``: reads the database and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortexd.cli.options import database_option, live_database, state_dir_option, user_option

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

WATCH_S = 1.0
STATE_STYLE = {"healthy": "green", "loaded": "green", "unhealthy": "red", "failed": "red", "stale": "yellow"}


@click.command("status")
@state_dir_option
@user_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch one per line.")
@click.option("--watch", is_flag=True, help="Refresh every second until Ctrl-C.")
def status_command(state_dir: Path, database: str | None, as_json: bool, watch: bool) -> None:
    """Show neurons, devices, resident models, requests in flight and open loads."""
    from cortexd.store.connect import connect
    from cortexd.store.overview import overview

    engine = connect(live_database(state_dir, database))
    try:

        def look() -> dict[str, Any]:
            return overview(engine, time.time())

        if watch:
            _watch(look, as_json=as_json)
        elif as_json:
            click.echo(json.dumps(look(), indent=2))
        else:
            _console().print(render(look()))
    finally:
        engine.dispose()


def _watch(look: Callable[[], dict[str, Any]], *, as_json: bool) -> None:
    try:
        if as_json:
            while True:
                click.echo(json.dumps(look()))
                time.sleep(WATCH_S)
        from rich.live import Live

        with Live(render(look()), console=_console(), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_S)
                live.update(render(look()), refresh=True)
    except KeyboardInterrupt:
        return


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def render(seen: dict[str, Any]) -> Group:
    """The tables for people."""
    from rich.console import Group
    from rich.text import Text

    if seen["generation"] is None:
        return Group(Text("no generation is live; `cortexd compile` and `cortexd apply` make one"))
    head = (
        f"{seen['fleet']}: generation {seen['generation'][:12]} (version {seen['version']}), {seen['models']} models, "
        f"{seen['in_flight']} requests in flight, {seen['queue_depth']} queued"
    )
    parts: list[Text | Table] = [Text(head)]
    applied = seen["apply"]
    if applied is not None and applied["state"] != "live":
        why = f": {applied['error']}" if applied["error"] else ""
        parts.append(Text(f"{applied['kind']} of version {seen['version']} is {applied['state']}{why}", style="yellow"))
    if any(neuron["state"] in ("stale", "unknown") for neuron in seen["neurons"]):
        parts.append(Text("the controller has not reported lately; is it running?", style="yellow"))
    parts.append(
        _table(
            ("NEURON", "STATE", "LAST POLL", "VERSION", "ENDPOINT", "ERROR"),
            [
                (n["name"], n["state"], _age(n["last_poll_age_s"]), n["version"], n["endpoint"], n["error"])
                for n in seen["neurons"]
            ],
        )
    )
    if seen["devices"]:
        parts.append(
            _table(
                ("DEVICE", "KIND", "MEMORY USED", "TOTAL", "BUSY"),
                [
                    (
                        f"{d['neuron']}/{d['device']}",
                        d["kind"],
                        _mib(d["memory_used_bytes"]),
                        _mib(d["memory_total_bytes"]),
                        None if d["utilization_pct"] is None else f"{d['utilization_pct']:.0f} %",
                    )
                    for d in seen["devices"]
                ],
            )
        )
    if seen["residents"]:
        parts.append(
            _table(
                ("RESIDENT", "NEURON", "STATE", "FOR", "IN FLIGHT", "QUEUED", "PINNED", "ERROR"),
                [
                    (
                        r["model"],
                        r["neuron"],
                        r["state"],
                        _age(r["for_s"]),
                        r["in_flight"],
                        r["queue_depth"],
                        "yes" if r["pinned"] else "no",
                        r["error"],
                    )
                    for r in seen["residents"]
                ],
            )
        )
    declared = [r for r in seen["replicas"] if r["min"] or r["max"]]
    if declared:
        parts.append(
            _table(
                ("REPLICAS OF", "LOADED", "MIN", "MAX", "ON"),
                [(r["model"], r["loaded"], r["min"], r["max"], ", ".join(r["neurons"]) or None) for r in declared],
            )
        )
    if seen["loads"]:
        parts.append(
            _table(
                ("LOAD", "STATE", "NEURON", "WAITING", "ERROR"),
                [(o["model"], o["state"], o["neuron"], _age(o["waiting_s"]), o["error"]) for o in seen["loads"]],
            )
        )
    return Group(*parts)


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    filled = [i for i, name in enumerate(columns) if name != "ERROR" or any(row[i] for row in rows)]
    for i in filled:
        table.add_column(columns[i])
    for row in rows:
        cells = [("-" if row[i] is None else str(row[i])) for i in filled]
        table.add_row(*(Text(cell, style=STATE_STYLE.get(cell, "")) for cell in cells))
    return table


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} d"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
