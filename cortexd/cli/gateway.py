"""``cortexd gateway``."""

from __future__ import annotations

from pathlib import Path

import click

from cortexd.cli.options import finish_interrupted, live_database, log_level_option, log_to_stderr, state_dir_option


@click.command("gateway")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="control.toml as `cortexd apply` wrote it.  [default: STATE_DIR/etc/control.toml]",
)
@state_dir_option
@log_level_option
def gateway_command(config: Path | None, state_dir: Path, log_level: str) -> None:
    """Run the gateway until SIGTERM: HTTP for clients on [gateway] listen, metrics on metrics_listen."""
    from cortexd.gateway.server import GatewayError, run
    from cortexd.settings import database_url, load_settings

    finish_interrupted(state_dir)
    settings = load_settings(config or state_dir / "etc" / "control.toml")
    live_database(state_dir, database_url(settings.database.url, state_dir))
    log_to_stderr(log_level)
    try:
        run(settings, state_dir)
    except GatewayError as e:
        raise click.ClickException(str(e)) from e
