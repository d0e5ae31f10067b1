"""What an apply would change, from what is live: rows, files, units, models. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from compiler.plan import Change, MassDeletion, as_json, mass_deletions, plan
from cortexd.deploy import database, rows
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import load_archived
from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.host.protocol import HostError
from cortexd.deploy.hosts import Connect, Hosts, connect_host, differing, hosts_of, unit_hashes
from cortexd.deploy.price import Price, price_of
from cortexd.deploy.rows import Situation
from cortexd.deploy.site import Site
from cortexd.models import Resident

PLAN_SCHEMA = 1
# How long a host may take to say what it has.
OBSERVE_S = 30.0


@dataclass(frozen=True, slots=True)
class FileChange:
    """``action``: create, update or delete; the contents are None where there is none, or none that is known."""

    host: str
    path: str
    action: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """``repairs``: what is not on a host as the live generation has it, and would be put right."""

    generation: CompiledGeneration
    previous: CompiledGeneration | None
    base: Situation
    changes: tuple[Change, ...]
    files: tuple[FileChange, ...]
    price: Price
    mass: tuple[MassDeletion, ...]
    repairs: tuple[str, ...]
    unfinished: bool
    warnings: tuple[str, ...]
    hosts: Hosts

    @property
    def switches(self) -> bool:
        """Another generation than the live one."""
        return self.base.generation != self.generation.hash

    @property
    def nothing(self) -> bool:
        """All is as it should be."""
        return not (self.switches or self.repairs or self.unfinished)


_NOTHING: tuple[Situation, list[Mapping[str, Any]]] = (rows.NEVER, [])


def make_plan(generation: CompiledGeneration, site: Site, connect: Connect = connect_host) -> FleetPlan:
    """Compare with what is live and with what each host has. Raises ApplyError."""
    url = database.url_of(generation, site)
    with database.sentences(url):
        base, residents = database.read(url, _seen, _NOTHING)
    warnings: list[str] = []
    previous = _previous(base, generation, site, warnings)
    hosts = hosts_of(site, generation, previous, connect=connect)
    repairs: list[str] = []
    if base.generation == generation.hash:
        for host, answer in hosts.ask("observe", generation, timeout_s=OBSERVE_S).items():
            if isinstance(answer, HostError):
                warnings.append(str(answer))
            else:
                repairs += [f"{host}:{name}: {what}" for name, what in differing(generation, answer)]
                repairs += [f"{host}: {problem}" for problem in answer.problems]
    names = sorted({*generation.hosts, *(previous.hosts if previous else ())})
    price = price_of(
        base.tables,
        generation.tables,
        {host: unit_hashes(previous, host) for host in names},
        {host: unit_hashes(generation, host) for host in names},
        residents,
    )
    return FleetPlan(
        generation,
        previous,
        base,
        plan(generation.tables, base.tables).changes,
        tuple(_files(previous, generation, site)),
        price,
        mass_deletions(generation.tables, base.tables),
        tuple(repairs),
        base.last is not None and base.last.state != "live",
        tuple(warnings),
        hosts,
    )


def _seen(connection: Connection) -> tuple[Situation, list[Mapping[str, Any]]]:
    residents = connection.execute(select(Resident.__table__).order_by(Resident.neuron, Resident.model)).mappings()
    return rows.situation(connection), [dict(row) for row in residents]


def _previous(
    base: Situation, generation: CompiledGeneration, site: Site, warnings: list[str]
) -> CompiledGeneration | None:
    if base.generation is None:
        return None
    if base.generation == generation.hash:
        return generation
    try:
        return load_archived(site, base.generation)
    except ApplyError as e:
        warnings.append(f"the files of the live generation are not known, so all of them count as new: {e}")
        return None


def _files(before: CompiledGeneration | None, after: CompiledGeneration, site: Site) -> list[FileChange]:
    """Files of hosts; of the two kinds of units those that are installed."""
    old, new = (_relevant(g, site) if g else {} for g in (before, after))
    found = []
    for host, path in sorted(old.keys() | new.keys()):
        was, will = old.get((host, path)), new.get((host, path))
        if was != will:
            action = "create" if was is None else "delete" if will is None else "update"
            found.append(FileChange(host, path, action, was, will))
    return found


def _relevant(generation: CompiledGeneration, site: Site) -> dict[tuple[str, str], bytes]:
    """Without what this kind of installation has no use for."""
    others = ("systemd/system/", "sysusers.d/", "tmpfiles.d/") if site.mode == "user" else ("systemd/user/",)
    return {
        (host, path): data
        for host in generation.hosts
        for path, data in generation.host_files(host).items()
        if not path.startswith(others)
    }


def plan_json(made: FleetPlan) -> dict[str, Any]:
    """For programs, and what a plan file holds."""
    return {
        "schema": PLAN_SCHEMA,
        "target": made.generation.hash,
        "base": {"generation": made.base.generation, "version": made.base.version},
        "changes": [as_json(change) for change in made.changes],
        "files": [{"host": f.host, "path": f.path, "action": f.action} for f in made.files],
        "price": asdict(made.price),
        "mass_deletions": [asdict(m) for m in made.mass],
        "repairs": list(made.repairs),
        "by_hand": list(made.hosts.by_hand),
        "warnings": list(made.warnings),
    }


@dataclass(frozen=True, slots=True)
class Expected:
    """What a plan file was made for."""

    path: Path
    target: str
    generation: str | None
    version: int


def read_plan_file(path: Path) -> Expected:
    """Raises ApplyError when it is no plan file."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["schema"] != PLAN_SCHEMA:
            raise ApplyError(f"{path} has schema {said['schema']}; this version reads {PLAN_SCHEMA}; plan again")
        base = said["base"]
        target, generation, version = said["target"], base["generation"], base["version"]
        if not (isinstance(target, str) and isinstance(version, int) and isinstance(generation, str | None)):
            raise TypeError
        return Expected(path, target, generation, version)
    except OSError as e:
        raise ApplyError(f"{path}: {e.strerror}; `cortexd plan --out FILE` writes one") from e
    except (ValueError, KeyError, TypeError):
        raise ApplyError(f"{path} is no plan file; `cortexd plan --out FILE` writes one") from None


def check(made: FleetPlan, expected: Expected | None, *, force: bool) -> None:
    """Refuse a stale plan, and a mass deletion without ``force``. Raises ApplyError."""
    if expected is not None:
        stale = None
        if expected.target != made.generation.hash:
            stale = f"it was made for generation {expected.target[:12]}, not for {made.generation.hash[:12]}"
        elif (expected.generation, expected.version) != (made.base.generation, made.base.version):
            was, now = (
                f"version {version} ({(generation or 'nothing')[:12]})"
                for generation, version in (
                    (expected.generation, expected.version),
                    (made.base.generation, made.base.version),
                )
            )
            stale = f"it was made when {was} was live; now it is {now}"
        if stale:
            raise ApplyError(f"the plan in {expected.path} is stale: {stale}; nothing was changed; plan again")
    if made.mass and not force:
        what = ", ".join(str(m) for m in made.mass)
        raise ApplyError(f"this deletes {what}; nothing was changed; if that is meant, apply with --force")
