"""``cortexd controller``."""

from __future__ import annotations

from pathlib import Path

import click

from cortexd.cli.options import finish_interrupted, live_database, log_level_option, log_to_stderr, state_dir_option


@click.command("controller")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="control.toml as `cortexd apply` wrote it.  [default: STATE_DIR/etc/control.toml]",
)
@state_dir_option
@log_level_option
def controller_command(config: Path | None, state_dir: Path, log_level: str) -> None:
    """Run the controller until SIGTERM: poll neurons, record what they say, load and unload models."""
    from cortexd.controller import run
    from cortexd.settings import load_settings
    from cortexd.supervisor import exclusive

    finish_interrupted(state_dir)
    settings = load_settings(config or state_dir / "etc" / "control.toml")
    live_database(state_dir, None if config is None else _absolute(settings.database.url, state_dir))
    log_to_stderr(log_level)
    with exclusive(state_dir / "controller.lock", "cortexd controller"):
        run(settings, state_dir)


def _absolute(url: str, state_dir: Path) -> str:
    from cortexd.settings import database_url

    return database_url(url, state_dir)
