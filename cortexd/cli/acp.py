"""``cortexd acp``."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import click

from cortexd.cli.options import log_level_option, log_to_stderr


@click.command("acp")
@log_level_option
def acp_command(log_level: str) -> None:
    """Answer an editor on standard input and output: Agent Client Protocol.

    Editors start this themselves. Endpoints come from ~/.config/cortexd/acp.toml, or from CORTEXD_ACP_BASE_URL, or are
    the gateway of this machine.
    """
    from cortexd.acp.agent import serve

    log_to_stderr(log_level)
    # it writes headers, and with them keys
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
