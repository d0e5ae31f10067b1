"""A plan for people: rows, files and the price, in colour where the terminal has it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from cortexd.deploy.planning import FileChange, FleetPlan
    from cortexd.deploy.price import Price

STYLE = {"+": "green", "-": "red", "~": "yellow", "@": "dim"}
SIGN = {"create": "+", "delete": "-", "update": "~"}
# Of one file; a new dashboard is long.
LINES = 20
_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


def show_plan(made: FleetPlan, console: Console) -> None:
    """Print it."""
    from rich.text import Text

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    short = made.generation.hash[:12]
    if made.nothing:
        line(f"generation {short} is live already: nothing to do")
    elif made.switches:
        since = (
            f"version {made.base.version}, generation {made.base.generation[:12]}" if made.base.generation else "none"
        )
        line(f"to generation {short}, from {since}", "bold")
    else:
        line(f"generation {short} is live; what is not as it was compiled would be put right", "bold")
    for change in made.changes:
        text = str(change)
        line(text, STYLE[text[0]])
    for file in made.files:
        line(f"{SIGN[file.action]} file {file.host}:{file.path}", STYLE[SIGN[file.action]])
        for part in _difference(file):
            line(f"    {part}", STYLE.get(part[0], ""))
    for repair in made.repairs:
        line(f"~ {repair}", STYLE["~"])
    if made.unfinished:
        line("~ the live generation had not become ready when it was applied", STYLE["~"])
    if made.switches:
        for text in price_lines(made.price, units=made.hosts.site.has_units):
            line(text)
    for mass in made.mass:
        line(f"! deletes {mass}: apply asks for --force", "bold red")
    for host in made.hosts.by_hand:
        line(f"! {host} cannot be reached from here: run `{made.hosts.site.pull(host)}` there", "yellow")
    for warning in made.warnings:
        line(f"! {warning}", "yellow")


def price_lines(price: Price, *, units: bool) -> Iterator[str]:
    """What it costs, one thing a line."""
    yield "price:"
    for unit in price.units:
        yield f"  {unit.verb} {unit.unit} on {unit.host}"
    if not price.units:
        yield "  no unit restarts"
    elif not units:
        yield "  (mode files: nothing is restarted; do it yourself, `cortexd up` reads its files at start)"
    for move in price.models:
        busy = f", {move.in_flight} in flight" if move.in_flight else ""
        yield f"  {move.verb} {move.model} on {move.neuron}{busy}"
    yield f"  requests in flight that it touches: {price.streams}"
    yield f"  downtime: {price.downtime}"


def _difference(file: FileChange) -> Iterator[str]:
    """The changed lines of a text file; passwords in URLs are hidden."""
    if file.action != "update" or file.before is None or file.after is None or file.path == "host.json":
        return  # host.json holds hashes of the others
    before, after = (
        _PASSWORD.sub(r"\1***@", data.decode("utf-8", "replace")).splitlines() for data in (file.before, file.after)
    )
    lines = [text for text in difflib.unified_diff(before, after, lineterm="", n=0) if text[:3] not in ("---", "+++")]
    changed = [text for text in lines if not text.startswith("@@")]
    yield from changed[:LINES]
    if len(changed) > LINES:
        yield f"@ {len(changed) - LINES} more lines"
    if not changed:
        yield "@ a secret in it changes"
