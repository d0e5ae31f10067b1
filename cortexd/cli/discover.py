"""``cortexd discover``: ask the neurons that run what they are, and write fleet.lock."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cortexd.discovery.ask import Answer, Target

LOCK = "fleet.lock"


@click.command("discover")
@click.option(
    "--fleet", type=click.Path(path_type=Path), default=Path("fleet.toml"), show_default=True, help="The fleet."
)
@click.option(
    "--lock", type=click.Path(path_type=Path), help="What is written.  [default: fleet.lock beside the fleet]"
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that one neuron may take.",
)
@click.option(
    "--at-once", type=click.IntRange(1), default=64, show_default=True, help="How many are asked at the same time."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def discover_command(fleet: Path, lock: Path | None, timeout_s: float, at_once: int, as_json: bool) -> None:
    """Ask every neuron of the fleet what it is, and write that to fleet.lock.

    Devices with their real memory, driver, ONNX Runtime and version: so `cortexd compile` proves against what is there,
    without a network. A neuron that does not answer keeps its old entry, and the status is 1.
    """
    from cortexd.discovery.answers import merged
    from cortexd.discovery.files import FileError, load_lock, read_targets, save_lock

    path = fleet.with_name(LOCK) if lock is None else lock
    try:
        targets = read_targets(fleet, os.environ)
        old = load_lock(path)
        answers = _ask(targets, timeout_s, at_once, quiet=as_json)
        names = [target.name for target in targets]
        changed = save_lock(path, merged(old, names, [a.found.neuron for a in answers if a.found]))
    except FileError as e:
        raise click.ClickException(str(e)) from None
    known = {neuron.name for neuron in old.neurons}
    if as_json:
        neurons = [_as_json(a, a.name in known) for a in answers]
        click.echo(
            json.dumps({"lock": str(path), "changed": changed, "neurons": neurons}, indent=2, ensure_ascii=False)
        )
    else:
        _show(answers, known, path, changed)
    if any(answer.found is None for answer in answers):
        sys.exit(1)


def _ask(targets: list[Target], timeout_s: float, at_once: int, *, quiet: bool) -> list[Answer]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from cortexd.discovery.ask import ask_all

    columns = (TextColumn("asking {task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
    with progress if not progress.disable else nullcontext():
        task = progress.add_task("", total=len(targets), name=f"{len(targets)} neurons")
        return asyncio.run(ask_all(targets, timeout_s, at_once, lambda _: progress.advance(task)))


def _as_json(answer: Answer, had_entry: bool) -> dict[str, Any]:
    if answer.found is None:
        return {"name": answer.name, "ok": False, "error": answer.error, "kept_old_entry": had_entry}
    neuron = answer.found.neuron
    return {
        "name": neuron.name,
        "ok": True,
        "health": answer.found.health,
        "notes": list(answer.found.notes),
        "package_version": neuron.package_version,
        "onnxruntime": neuron.onnxruntime,
        "providers": list(neuron.providers),
        "driver": neuron.driver,
        "devices": [
            {
                "name": d.name,
                "kind": d.kind,
                "index": d.index,
                "memory_bytes": d.memory_bytes,
                "product": d.product,
                "uuid": d.uuid,
            }
            for d in neuron.devices
        ],
    }


def _show(answers: list[Answer], known: set[str], path: Path, changed: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("NEURON", "HEALTH", "DEVICE", "MEMORY", "PRODUCT", "ONNX RUNTIME", "DRIVER", "VERSION"):
        table.add_column(heading, justify="right" if heading == "MEMORY" else "left")
    failed = [answer for answer in answers if answer.found is None]
    for answer in answers:
        if answer.found is None:
            continue
        neuron = answer.found.neuron
        about = (neuron.onnxruntime or "-", neuron.driver or "-", neuron.package_version or "-")
        style = "green" if answer.found.health == "ok" else "yellow"
        head: tuple[str | Text, ...] = (neuron.name, Text(answer.found.health, style=style))
        rows = [(d.name, f"{d.memory_bytes >> 20:,} MiB", d.product or "-") for d in neuron.devices]
        for n, row in enumerate(rows or [("-", "-", "-")]):
            table.add_row(*(head if n == 0 else ("", "")), *row, *(about if n == 0 else ("", "", "")))
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
    for answer in answers:
        for note in answer.found.notes if answer.found else ():
            click.echo(f"{answer.name}: {note}", err=True)
    for answer in failed:
        kept = "its old entry stays" if answer.name in known else "it has no entry"
        click.echo(f"{answer.name} was not discovered ({kept}): {answer.error}", err=True)
    what = "written" if changed else "unchanged"
    click.echo(f"{path} {what}: {len(answers) - len(failed)} of {len(answers)} neurons answered")
