"""``cortexd up``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from cortexd.cli.options import finish_interrupted, live_database, state_dir_option


@click.command("up")
@state_dir_option
@click.option(
    "--ready-timeout",
    type=click.FloatRange(min=1),
    default=180,
    show_default=True,
    metavar="SECONDS",
    help="Give up when the gateway is not ready by then.",
)
def up_command(state_dir: Path, ready_timeout: float) -> None:
    """Run gateway, controller and the neurons of this host in the foreground, without systemd.

    Needs an applied generation (cortexd compile, cortexd apply). Prints one line when it serves; Ctrl-C stops every
    process. What dies is started again.
    """
    from cortexd.supervisor import up

    finish_interrupted(state_dir)
    url = live_database(state_dir, None)
    up(state_dir.resolve(), ready_timeout, _line, lambda: _forget(url))


def _forget(url: str) -> None:
    """What the last run saw is not true any more: without this the gateway would call itself ready at once."""
    from cortexd.store.connect import connect
    from cortexd.store.overview import forget_observed

    engine = connect(url)
    forget_observed(engine)
    engine.dispose()


def _line(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever read our lines is gone; the fleet is not
        click.echo(text)
