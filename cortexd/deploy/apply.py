"""``apply``: verify, recover, plan, then the steps. Killed anywhere, the next one (or the next start) completes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compiler.plan import Change
from cortexd.deploy import database, rows, steps
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.files import INTENT
from cortexd.deploy.generation import CompiledGeneration, load_generation
from cortexd.deploy.host.durable import FOLDER_MODE
from cortexd.deploy.migrate import upgrade
from cortexd.deploy.planning import Expected, FleetPlan, check, make_plan
from cortexd.deploy.recover import recover
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site
from cortexd.deploy.steps import Switch

# Same generation, but a host or the history is not as it should be: no commit, no way back.
REPAIR: Sequence[steps.Step] = (
    ("archive", steps.keep_folder),
    ("prepare", steps.prepare),
    ("activate", steps.activate),
    ("ready", steps.ready),
    ("settle", steps.settle),
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done. ``changes`` are those of the rows; ``repaired`` names what was put right on hosts.

    ``version`` is None if the generation was live already. ``units``: (host, unit, verb). ``by_hand`` names hosts that
    cannot be reached from here. ``notes``: what else happened, for people.
    """

    generation: str
    previous: str | None
    version: int | None
    kind: str
    migrated: bool
    changes: tuple[Change, ...]
    repaired: tuple[str, ...]
    units: tuple[tuple[str, str, str], ...]
    by_hand: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """It was all there already."""
        return self.version is None and not self.migrated and not self.repaired


def apply(
    folder: Path,
    site: Site,
    *,
    expected: Expected | None = None,
    force: bool = False,
    settings: Settings | None = None,
) -> Applied:
    """Make the generation in ``folder`` the live one of ``site``.

    Raises ApplyError: then nothing has changed. Raises NotReady: then it says which generation is live. ``expected``: a
    plan that must still hold; ``force``: delete most of the fleet, if that is what it takes. Blocks until all hosts are
    ready, at most about twice ``settings.timeout_s``.
    """
    generation = load_generation(folder)
    settings = settings or Settings()
    url = database.url_of(generation, site)
    with database.sentences(url):
        site.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with exclusively(site):
            notes = recover(site, settings)
            return switch_to(generation, site, "apply", notes, expected=expected, force=force, settings=settings)


def finish(site: Site, settings: Settings | None = None) -> list[str]:
    """Only what ``recover`` does, for those who look before they apply. Raises ApplyError, also
    while an apply is at work.
    """
    if not (site.folder / INTENT).exists():
        return []
    with exclusively(site):
        return recover(site, settings or Settings())


def switch_to(
    generation: CompiledGeneration,
    site: Site,
    kind: str,
    notes: Sequence[str],
    *,
    expected: Expected | None,
    force: bool,
    settings: Settings,
) -> Applied:
    """The same for a verified generation, by whoever holds the lock and has recovered. ``kind``: apply or rollback."""
    rows.check_columns(generation)
    made = make_plan(generation, site, settings.connect)
    check(made, expected, force=force)
    url = database.url_of(generation, site)
    switch = Switch(
        site, url, generation, made.previous if made.switches else None, made.base.version, kind, made.hosts, settings
    )
    if made.switches:
        steps.run(switch)
    elif made.nothing:
        switch.migrated = database.transact(url, upgrade)
    else:
        _repair(switch)
    return _applied(made, switch, notes)


def _repair(switch: Switch) -> None:
    switch.migrated = database.transact(switch.url, upgrade)
    try:
        for name, step in REPAIR:
            step(switch)
            switch.settings.after(f"repair-{name}")
    except NotReady as e:
        raise NotReady(
            f"generation {switch.generation.hash[:12]} was live already and is not ready; correct what is named and "
            f"apply again, or go back with `cortexd rollback`:\n  {e}"
        ) from None


def _applied(made: FleetPlan, switch: Switch, notes: Sequence[str]) -> Applied:
    repaired = list(made.repairs)
    if made.unfinished and not made.switches:
        repaired.append("it had not become ready before")
    return Applied(
        made.generation.hash,
        made.base.generation,
        switch.version if made.switches else None,
        switch.kind,
        switch.migrated,
        made.changes,
        tuple(repaired),
        tuple(switch.changed),
        made.hosts.by_hand,
        (*notes, *made.warnings, *switch.warnings),
    )


@contextmanager
def exclusively(site: Site) -> Iterator[None]:
    """One apply at a time; the kernel lets go of it when the process ends, however it ends. Raises ApplyError."""
    # the folder may belong to another user than root, who applies: no link is followed, nothing is truncated
    handle = os.open(site.folder / ".apply.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ApplyError(f"another `cortexd apply` is at work on {site.folder}; wait for it") from None
        yield
    finally:
        os.close(handle)
