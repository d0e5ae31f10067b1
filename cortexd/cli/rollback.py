"""``cortexd rollback``: an earlier generation becomes the live one again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cortexd.cli.apply import report
from cortexd.cli.options import site_options, timeout_option

if TYPE_CHECKING:
    from cortexd.deploy.site import Site


@click.command("rollback")
@click.argument("back", metavar="[N]", type=click.IntRange(min=1), default=1)
@site_options
@click.option("--to", metavar="HASH", help="The applied generation whose hash begins so, instead of N applies back.")
@click.option("--force", is_flag=True, help="Delete most of the fleet, if that is what going back means.")
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rollback_command(back: int, site: Site, to: str | None, force: bool, timeout: float, as_json: bool) -> None:
    """Go back N applies (1): rows and files of every host, byte for byte as they were.

    A rollback is an apply of a generation that was kept, with the same checks and the same way back. Like undo: two
    rollbacks go back two applies. The last 10 generations are kept.
    """
    from cortexd.cli.progress import telling
    from cortexd.deploy.rollback import rollback
    from cortexd.deploy.settings import Settings

    with telling(quiet=as_json) as tell:
        done = rollback(site, back, to, force=force, settings=Settings(timeout_s=timeout, tell=tell))
    report(done, site, as_json=as_json)
