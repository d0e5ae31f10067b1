"""``cortexd fit``: what models took beside what was predicted; and into fleet.lock, for the next compile."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortexd.cli.options import database_option, live_database, state_dir_option

if TYPE_CHECKING:
    from compiler.lock import Measured
    from cortexd.store.memory import Fit

LOCK = "fleet.lock"


@click.command("fit")
@state_dir_option
@database_option
@click.option("--report", is_flag=True, help="Show the report; without --write that is what is done anyway.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with what is not current as well.")
@click.option(
    "--write",
    metavar="[FILE]",
    type=click.Path(dir_okay=False, path_type=Path),
    is_flag=False,
    flag_value=Path(LOCK),
    help=f"Store what was measured in FILE ({LOCK} here), where `cortexd compile` finds it.",
)
def fit_command(state_dir: Path, database: str | None, report: bool, as_json: bool, write: Path | None) -> None:
    """Show what each model took on each device, beside what the memory proof said; the worst first.

    The measure is that of the neuron, when it loaded the model. A ratio above 1 means that the proof promised too much.
    """
    from cortexd.store.connect import connect
    from cortexd.store.memory import fits

    engine = connect(live_database(state_dir, database))
    try:
        found = fits(engine)
    finally:
        engine.dispose()
    written = _write(write, found) if write is not None else None
    if as_json:
        click.echo(json.dumps(_answer(found, write, written), indent=2))
    elif report or write is None:
        _show(found)
    if written is not None and not as_json:
        entries, changed = written
        click.echo(f"{write} {'written' if changed else 'unchanged'}: {entries} measured shapes")


def _write(path: Path, found: list[Fit]) -> tuple[int, bool]:
    """The number of shapes from this database, and whether the file changed."""
    from cortexd.discovery.answers import with_measured
    from cortexd.discovery.files import FileError, load_lock, save_lock

    try:
        old = load_lock(path)
        lock, entries = with_measured(old, _shapes(found))
        return entries, save_lock(path, lock)
    except FileError as e:
        raise click.ClickException(str(e)) from None


def _shapes(found: list[Fit]) -> list[Measured]:
    """What fleet.lock holds of each; a device that nobody knows any more has no kind and tells nothing."""
    from compiler.lock import Measured

    return [
        Measured(f.manifest_sha256, f.context, f.max_sequences, f.kind, f.devices, f.measured_bytes)
        for f in found
        if f.kind is not None and f.measured_bytes > 0
    ]


def _devices(found: list[Fit]) -> list[dict[str, Any]]:
    """Sums of what is current, worst first."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for f in found:
        if f.current:
            entry = sums.setdefault(
                (f.neuron, f.device),
                {
                    "neuron": f.neuron,
                    "device": f.device,
                    "models": 0,
                    "predicted_bytes": 0,
                    "measured_bytes": 0,
                    "device_bytes": f.device_bytes,
                },
            )
            entry["models"] += 1
            entry["predicted_bytes"] += f.predicted_bytes
            entry["measured_bytes"] += f.measured_bytes
    for entry in sums.values():
        entry["ratio"] = round(entry["measured_bytes"] / max(entry["predicted_bytes"], 1), 4)
    return sorted(sums.values(), key=lambda e: (-e["ratio"], e["neuron"], e["device"]))


def _answer(found: list[Fit], path: Path | None, written: tuple[int, bool] | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "models": [asdict(f) | {"ratio": round(f.ratio, 4)} for f in found],
        "devices": _devices(found),
    }
    if written is not None:
        answer["lock"] = {"file": str(path), "shapes": written[0], "changed": written[1]}
    return answer


def _show(found: list[Fit]) -> None:
    from rich.console import Console, Group

    current = [f for f in found if f.current]
    if not current:
        click.echo("Nothing that is served now was measured yet: that happens when a neuron loads a model.")
    else:
        models = _table("MODEL", "DEVICE", "CONTEXT", "SEQUENCES", "PREDICTED", "MEASURED", "RATIO")
        for f in current:
            shape = (f"{f.context:,}", str(f.max_sequences))
            where = f"{f.neuron}/{f.device}"
            models.add_row(f.model, where, *shape, mib(f.predicted_bytes), mib(f.measured_bytes), _ratio(f.ratio))
        devices = _table("DEVICE", "MODELS", "PREDICTED", "MEASURED", "RATIO", "DECLARED")
        for d in _devices(found):
            sums = (mib(d["predicted_bytes"]), mib(d["measured_bytes"]), _ratio(d["ratio"]), mib(d["device_bytes"]))
            devices.add_row(f"{d['neuron']}/{d['device']}", str(d["models"]), *sums)
        console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
        console.print(Group(models, "", "All models that were measured on a device, loaded together or not:", devices))
    if others := len(found) - len(current):
        click.echo(f"{others} more of models or shapes that are not served now: --json has them.")


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("MODEL", "DEVICE") else "right", no_wrap=True)
    return table


def _ratio(ratio: float) -> Any:
    from rich.text import Text

    return Text(f"{ratio:.2f}", style="red" if ratio > 1 else "green")


def mib(count: int | None) -> str:
    """MiB for people; ``-`` for what is unknown."""
    return "-" if count is None else f"{count / (1 << 20):,.0f} MiB"
