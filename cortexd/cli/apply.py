"""``cortexd apply``: a generation becomes the live one."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("apply")
@click.argument("generation_dir", type=click.Path(path_type=Path), required=False)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Database and configuration.",
)
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Where the latest one is found.",
)
def apply_command(generation_dir: Path | None, state_dir: Path, build: Path) -> None:
    """Make a generation the live one: all of it, or nothing.

    GENERATION_DIR is a folder that `cortexd compile` wrote; the latest one unless given. The database is migrated (or
    created), then rows and files are switched. Running it again changes nothing; after an interruption it completes.
    """
    from cortexd.deploy.apply import apply
    from cortexd.deploy.errors import ApplyError
    from cortexd.deploy.generation import find_generation

    try:
        done = apply(find_generation(generation_dir, build), state_dir)
    except ApplyError as e:
        raise click.ClickException(str(e)) from None
    short = done.generation[:12]
    for change in done.changes:
        click.echo(str(change))
    if done.nothing:
        click.echo(f"generation {short} is live already: nothing to do")
    elif done.version is None:
        click.echo(
            f"generation {short} was live already; completed its files"
            if done.files_changed
            else "migrated the database"
        )
    else:
        since = f", before it {done.previous[:12]}" if done.previous else ""
        click.echo(f"generation {short} is live in {state_dir} (apply {done.version}{since})")
    for host in done.elsewhere:
        click.echo(f"not on this machine: copy hosts/{host}/ of the generation to {host} yourself", err=True)
