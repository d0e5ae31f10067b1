"""The steps of a switch from one generation to another, each of them safe to be killed in and to be done again.

Before ``commit`` nothing that is in use has changed. It is one transaction: after it the new generation is live, and
whoever finds the intent finishes what is left. See docs/decisions/0005-the-commit-point-of-an-apply.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from cortexd.deploy import database, rows
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.files import archive, archived, forget_intent, prune_archive, write_intent
from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.host.protocol import HostError, Report
from cortexd.deploy.hosts import Hosts, failures, notes
from cortexd.deploy.migrate import upgrade
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site


@dataclass(slots=True)
class Switch:
    """One switch under way. ``version``: of ``live``, the one before until ``commit`` has set the new one.

    ``hosts``: those of both generations. ``changed``: (host, unit, verb), as hosts reported it.
    """

    site: Site
    url: str
    generation: CompiledGeneration
    previous: CompiledGeneration | None
    version: int
    kind: str
    hosts: Hosts
    settings: Settings
    migrated: bool = False
    changed: list[tuple[str, str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def keep_folder(switch: Switch) -> None:
    """The compiled folder goes to the archive, so that it can be brought back."""
    archive(switch.site, switch.generation)


def prepare(switch: Switch) -> None:
    """Every host has the files, safe on disk. One that fails ends it: nothing was changed."""
    switch.settings.tell(f"sending files to {_hosts(switch)}")
    answers = switch.hosts.ask("prepare", switch.generation)
    failed = _critical(switch, answers)
    switch.warnings += notes(answers)
    if failed:
        raise ApplyError("nothing was changed, because a host could not be prepared:\n  " + "\n  ".join(failed))


def intend(switch: Switch) -> None:
    """Say on disk what begins now, so that somebody finishes it whatever happens."""
    write_intent(
        switch.site,
        {
            "kind": switch.kind,
            "from": switch.previous.hash if switch.previous else None,
            "to": switch.generation.hash,
            "version": switch.version + 1,
            "mode": switch.site.mode,
            "state_dir": switch.site.state_dir,
            "root": switch.site.root,
        },
    )


def commit(switch: Switch) -> None:
    """THE point: schema, rows, ``live`` and the history in one transaction."""

    def change(connection: Connection) -> tuple[bool, int]:
        migrated = upgrade(connection)
        now = switch.settings.clock()
        return migrated, rows.make_current(connection, switch.generation, switch.kind, switch.version, now)

    switch.migrated, switch.version = database.transact(switch.url, change)


def activate(switch: Switch) -> None:
    """Hosts turn to the new files and restart what changed. Raises NotReady."""
    switch.settings.tell(f"activating on {_hosts(switch)}")
    # prepared already, but for what was changed or pruned since an earlier attempt
    _not_ready(_critical(switch, switch.hosts.ask("prepare", switch.generation)))
    answers = switch.hosts.ask("activate", switch.generation, timeout_s=switch.settings.timeout_s)
    switch.changed += [(h, *c) for h, a in answers.items() if isinstance(a, Report) for c in a.changed]
    switch.warnings += notes(answers)
    _not_ready(_critical(switch, answers))


def ready(switch: Switch) -> None:
    """Every unit of every host is active and answers, within the time. Raises NotReady."""
    timeout_s = switch.settings.timeout_s
    switch.settings.tell(f"waiting for {_hosts(switch)} to be ready (at most {timeout_s:g} s)")
    only = [host for host in switch.hosts.names if switch.hosts.serve(switch.generation, host)]
    _not_ready(_critical(switch, switch.hosts.ask("ready", switch.generation, only=only, timeout_s=timeout_s)))


def settle(switch: Switch) -> None:
    """The history says that it worked."""
    now = switch.settings.clock()
    database.transact(switch.url, lambda connection: rows.make_ready(connection, switch.version, now))


def prune(switch: Switch) -> None:
    """Old generations go, here and on the hosts; what cannot be deleted is no reason to fail."""
    keep = kept(database.read(switch.url, rows.history, []), switch.settings.keep)
    prune_archive(switch.site, keep)
    for line in failures(switch.hosts.ask("prune", switch.generation, keep=keep)):
        switch.warnings.append(f"old generations were not deleted: {line}")


def forget(switch: Switch) -> None:
    """Nothing is under way any more."""
    forget_intent(switch.site)


Step = tuple[str, Callable[[Switch], None]]
# Done once the commit happened, by whoever does it.
FINISH: tuple[Step, ...] = (
    ("activate", activate),
    ("ready", ready),
    ("settle", settle),
    ("prune", prune),
    ("forget", forget),
)
STEPS: tuple[Step, ...] = (
    ("archive", keep_folder),
    ("prepare", prepare),
    ("intend", intend),
    ("commit", commit),
    *FINISH,
)


def run(switch: Switch, steps: tuple[Step, ...] = STEPS) -> None:
    """Do the steps; when the hosts do not become ready, go back. Raises ApplyError; NotReady after the way back."""
    try:
        for name, step in steps:
            step(switch)
            switch.settings.after(name)
    except NotReady as e:
        back = turn_back(switch, str(e))
        if back is None:
            raise NotReady(_stays(switch, str(e))) from None
        for name, step in BACK:
            try:
                step(back)
            except NotReady as more:
                turn_back(back, str(more))
                raise NotReady(_stuck(back, str(e), str(more))) from None
            back.settings.after(name)
        raise NotReady(_returned(switch, back, str(e))) from None


# The way back is a switch too. Its commit is done by ``turn_back``.
BACK: tuple[Step, ...] = tuple((f"back-{name}", step) for name, step in FINISH)


def turn_back(switch: Switch, reason: str) -> Switch | None:
    """Make the previous generation live again: one transaction. None if there is none, or if this was the way back."""
    now = switch.settings.clock()
    if switch.previous is None or switch.kind == "return":
        database.transact(switch.url, lambda c: rows.make_failed(c, switch.version, reason, now))
        forget(switch)
        return None
    previous = switch.previous
    switch.settings.tell(f"going back to generation {previous.hash[:12]}")
    version = database.transact(switch.url, lambda c: rows.go_back(c, switch.version, previous.hash, reason, now))
    switch.settings.after("back-commit")
    return Switch(
        switch.site, switch.url, previous, switch.generation, version, "return", switch.hosts, switch.settings
    )


def kept(history: list[rows.Switched], count: int) -> tuple[str, ...]:
    """The last ``count`` generations beside the live one, and the live one."""
    names = list(dict.fromkeys(entry.generation for entry in reversed(history)))
    return tuple(names[: count + 1])


def _critical(switch: Switch, answers: Mapping[str, Report | HostError]) -> list[str]:
    """What failed, without hosts that leave the fleet: one that is gone for good must not hold up the others."""
    leaving = {host: a for host, a in answers.items() if not switch.hosts.serve(switch.generation, host)}
    switch.warnings += [f"{line} (it is not in this generation any more)" for line in failures(leaving)]
    return failures({host: a for host, a in answers.items() if host not in leaving})


def _not_ready(failed: list[str]) -> None:
    if failed:
        raise NotReady("\n  ".join(failed))


def _hosts(switch: Switch) -> str:
    names = switch.hosts.names
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} hosts"


def _returned(switch: Switch, back: Switch, reason: str) -> str:
    return (
        f"generation {switch.generation.hash[:12]} did not become ready, so {back.generation.hash[:12]} is live again "
        f"(version {back.version}):\n  {reason}"
    )


def _stays(switch: Switch, reason: str) -> str:
    if switch.kind == "return":
        return _stuck(switch, "it was interrupted on the way back", reason)
    return (
        f"generation {switch.generation.hash[:12]} did not become ready, and there is no earlier one to go back to; "
        f"correct what is named and run `cortexd apply` again:\n  {reason}"
    )


def _stuck(back: Switch, reason: str, more: str) -> str:
    return (
        f"a generation did not become ready:\n  {reason}\nand {back.generation.hash[:12]}, which is live again, did "
        "not either; correct what is named and run "
        f"`cortexd apply {archived(back.site, back.generation.hash)}`:\n  {more}"
    )
