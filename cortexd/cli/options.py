"""Options that several commands share."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])

STATE_VARIABLE = "CORTEXD_STATE_DIR"
_USER = "cortexd.user"


def _default_folder(ctx: click.Context, _: click.Parameter, given: Path | None) -> Path:
    from cortexd.deploy.site import default_folder

    return given or default_folder(user=bool(ctx.meta.get(_USER)), as_root=root_of_systemd())


def _remember_user(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    ctx.meta[_USER] = given


state_dir_option: Callable[[F], F] = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=STATE_VARIABLE,
    callback=_default_folder,
    help="Where the live database and the applied files lie.  "
    "[default: $CORTEXD_STATE_DIR, else /var/lib/cortexd for root under systemd, else var]",
)
user_option: Callable[[F], F] = click.option(
    "--user",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_user,
    help="The state directory of `cortexd apply --user`: ~/.local/state/cortexd.",
)
build_option: Callable[[F], F] = click.option(
    "--build",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Where the latest generation is looked for.",
)
timeout_option: Callable[[F], F] = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Go back when the hosts are not ready by then.",
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


def root_of_systemd() -> bool:
    """Whether this is root on a machine that systemd runs: then the system's own state folder is meant."""
    from cortexd.deploy.site import RUNNING_SYSTEMD

    return os.geteuid() == 0 and RUNNING_SYSTEMD.exists()


def site_options(command: F) -> F:
    """--state-dir, --user, --mode and --root; the command gets them as ``site``."""

    @functools.wraps(command)
    def with_site(state_dir: Path | None, user: bool, mode: Any, root: Path | None, **rest: Any) -> Any:
        from cortexd.deploy.site import SiteError, choose

        try:
            site = choose(state_dir, user=user, mode=mode, root=root, as_root=root_of_systemd())
        except SiteError as e:
            raise click.UsageError(str(e)) from None
        return command(site=site, **rest)

    options = (
        click.option(
            "--state-dir",
            type=click.Path(path_type=Path),
            envvar=STATE_VARIABLE,
            help="Database and configuration; alone, it means --mode files.  [default: $CORTEXD_STATE_DIR, else that "
            "of the mode, else var]",
        ),
        click.option("--user", is_flag=True, help="Units of this user (systemctl --user), no root: --mode user."),
        click.option(
            "--mode",
            type=click.Choice(["files", "system", "user", "image"]),
            help="What is installed: files only, units of the system, of the user, or into an image.  [default: system "
            "for root under systemd, else files]",
        ),
        click.option(
            "--root",
            type=click.Path(file_okay=False, exists=True, path_type=Path),
            help="The folder of an image to write into: --mode image.",
        ),
    )
    made: Any = with_site
    for option in reversed(options):
        made = option(made)
    return cast(F, made)


def finish_interrupted(state_dir: Path) -> None:
    """What an apply that was killed left half done is finished before a daemon reads it; never fails, seldom waits."""
    if (state_dir / "apply.json").exists():
        from cortexd.deploy.recover import recover_at_start

        if said := recover_at_start(state_dir):
            click.echo(said, err=True)
