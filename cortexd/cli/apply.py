"""``cortexd apply``: a generation becomes the live one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cortexd.cli.options import build_option, site_options, timeout_option

if TYPE_CHECKING:
    from cortexd.deploy.apply import Applied
    from cortexd.deploy.site import Site


@click.command("apply")
@click.argument("generation_dir", type=click.Path(path_type=Path), required=False)
@site_options
@build_option
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Apply exactly what `cortexd plan --out FILE` showed; refused when anything moved since.",
)
@click.option("--force", is_flag=True, help="Delete most of the fleet, if that is what the generation says.")
@timeout_option
@click.option("--host", metavar="NAME", help="Only the files and units of this host, on this machine; no database.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def apply_command(
    generation_dir: Path | None,
    site: Site,
    build: Path,
    plan_file: Path | None,
    force: bool,
    timeout: float,
    host: str | None,
    as_json: bool,
) -> None:
    """Make a generation the live one on every host: all of it, or nothing.

    GENERATION_DIR is a folder that `cortexd compile` wrote; the latest one unless given. Every host gets its files
    first; then the rows are switched in one transaction; then the units that changed restart. When they are not ready
    in time, the former generation comes back by itself and the exit status is 1. Running it again changes nothing;
    after an interruption it completes.
    """
    if host is not None:
        if plan_file is not None or force:
            raise click.UsageError("--host takes a host's part as it is: --plan and --force are for the gateway host")
        _pull(generation_dir, site, build, host, timeout, as_json=as_json)
        return
    from cortexd.cli.progress import telling
    from cortexd.deploy.apply import apply
    from cortexd.deploy.generation import find_generation
    from cortexd.deploy.planning import read_plan_file
    from cortexd.deploy.settings import Settings

    expected = None if plan_file is None else read_plan_file(plan_file)
    if generation_dir is None and expected is not None:
        generation_dir = build / expected.target
    folder = find_generation(generation_dir, build)
    with telling(quiet=as_json) as tell:
        settings = Settings(timeout_s=timeout, tell=tell)
        done = apply(folder, site, expected=expected, force=force, settings=settings)
    report(done, site, as_json=as_json)


def _pull(generation_dir: Path | None, site: Site, build: Path, host: str, timeout: float, *, as_json: bool) -> None:
    """On a neuron's host: neither SQLAlchemy nor rich are there."""
    from cortexd.deploy.generation import find_generation
    from cortexd.deploy.pull import apply_here
    from cortexd.deploy.settings import Settings

    pulled = apply_here(find_generation(generation_dir, build), site, host, Settings(timeout_s=timeout))
    short = pulled.generation[:12]
    if as_json:
        click.echo(json.dumps(asdict(pulled), indent=2))
    elif pulled.nothing:
        click.echo(f"{host} has generation {short} already: nothing to do")
    else:
        for unit, verb in pulled.units:
            click.echo(f"{verb} {unit}")
        click.echo(f"{host} has generation {short} in {_shown(site.folder)}")


def report(done: Applied, site: Site, *, as_json: bool) -> None:
    """Say what an apply or a rollback did."""
    from compiler.plan import as_json as change_json

    hints = {host: site.pull(host) for host in done.by_hand}
    if as_json:
        fields: dict[str, Any] = {
            "generation": done.generation,
            "previous": done.previous,
            "version": done.version,
            "kind": done.kind,
            "nothing": done.nothing,
            "migrated": done.migrated,
            "changes": [change_json(change) for change in done.changes],
            "repaired": list(done.repaired),
            "units": [{"host": host, "unit": unit, "verb": verb} for host, unit, verb in done.units],
            "by_hand": hints,
            "notes": list(done.notes),
        }
        click.echo(json.dumps(fields, indent=2))
        return
    short = done.generation[:12]
    for note in done.notes:
        click.echo(note, err=True)
    for change in done.changes:
        click.echo(str(change))
    for host, unit, verb in done.units:
        click.echo(f"{verb} {unit} on {host}")
    for repair in done.repaired:
        click.echo(f"put right: {repair}")
    if done.nothing:
        click.echo(f"generation {short} is live already: nothing to do")
    elif done.version is None:
        click.echo(f"generation {short} was live already" + ("; migrated the database" if done.migrated else ""))
    else:
        since = f", before it {done.previous[:12]}" if done.previous else ""
        click.echo(f"generation {short} is live in {_shown(site.folder)} ({done.kind} {done.version}{since})")
    for host, command in hints.items():
        click.echo(
            f"{host} cannot be reached from here: copy the generation's folder there and run `{command}`", err=True
        )


def _shown(folder: Path) -> Path:
    """As short as it can be told."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
