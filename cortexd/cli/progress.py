"""What a long command is doing right now: a line that stays on a terminal while it lasts, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def telling(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that says what comes next, on standard error; ``quiet``: for programs, it says nothing.

    Ctrl-C in the block is a ClickException that says how to go on.
    """
    try:
        with _telling(quiet=quiet) as tell:
            yield tell
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the next `cortexd apply` completes what had begun") from None


@contextmanager
def _telling(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("looking at what is live", total=None)
        yield lambda text: progress.update(task, description=text)
