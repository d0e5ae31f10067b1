"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

state_dir_option: Callable[[F], F] = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Where the live database and the applied files lie.",
)
database_option: Callable[[F], F] = click.option(
    "--database", metavar="URL", help="Read this database instead of the one of the state directory."
)


def live_database(state_dir: Path, declared: str | None) -> str:
    """The URL of the live database. Raises SettingsError or ClickException when there is none yet."""
    from sqlalchemy.engine import make_url

    from cortexd.settings import database_url, load_settings

    if declared is None:
        declared = load_settings(state_dir / "etc" / "control.toml").database.url
        url = database_url(declared, state_dir)
    else:
        url = database_url(declared, Path())
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise click.ClickException(f"{parsed.database}: no such database; `cortexd apply` creates it")
    return url


def log_to_stderr(level: str) -> None:
    """Plain lines with the time, for a process in the foreground or under systemd."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)


log_level_option: Callable[[F], F] = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much is logged, to standard error.",
)
