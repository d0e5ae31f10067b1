"""activate: files in place, then exactly those units restart that run with something else. Killable anywhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from cortexd.deploy.host import install, owners, staging
from cortexd.deploy.host.enable_offline import enable_offline
from cortexd.deploy.host.hostfile import HostFile, Unit, read_host_file, unit_files
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.manager import Manager
from cortexd.deploy.host.protocol import Order, Report, UnitState
from cortexd.deploy.host.running import UNKNOWN, Running, load_running, save_running

Shown = Mapping[str, Mapping[str, str]]
# Of a unit with an [Install] section: somebody disabled it.
NOT_ENABLED = ("disabled", "masked", "masked-runtime")
_RUNS = ("active", "activating", "reloading", "refreshing")


@dataclass(frozen=True, slots=True)
class Steps:
    """What has to happen to units, in this order. ``stop``: only so that a socket can be bound anew."""

    stop: tuple[str, ...]
    restart: tuple[str, ...]
    start: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]


def activate(order: Order, layout: Layout) -> Report:
    """Raises HostError, OSError. ``ready`` judges what did not start; here it is only among ``detail["notes"]``."""
    if layout.variant is None:
        staging.switch(layout, order.generation)
        return Report(order.host, staging.current(layout))
    files = staging.read_generation(layout, order.generation)
    host = read_host_file(files)
    units = unit_files(host, files, layout.variant)
    if layout.mode == "image":
        return _into_image(order, layout, files, host, units)
    end = time.monotonic() + order.timeout_s
    manager = Manager(layout.mode == "user")
    manager.check()
    change = install.differing(layout, units)
    running = load_running(layout)
    shown = manager.show([*units, *change.gone])
    settled = (
        staging.current(layout) == order.generation
        and running.loaded == host.hashes
        and not change.written
        and not change.gone
        and install.confs_in_place(layout, files)
        and not any(s.get("NeedDaemonReload") == "yes" or s.get("UnitFileState") in NOT_ENABLED for s in shown.values())
    )
    notes: list[str] = []
    changed: list[tuple[str, str]] = []
    if not settled:
        tampered = {name for name in change.written if (running.loaded or {}).get(name) == host.hashes[name]}
        running = running.before_change(_invocations(shown))
        save_running(layout, running)
        _put(order, layout, files, notes)
        install.write_units(layout, units, change)
        _remove(manager, layout, change, set(units), shown, end - time.monotonic(), changed, notes)
        manager.enable([name for name in units if install.wants_enabling(units[name])])
        manager.reload()
        shown = manager.show(units)
        running = _forget(running.after_change(_invocations(shown), host.hashes), tampered)
        save_running(layout, running)
    steps = decide(host.units, shown, running)
    for act, names in ((manager.stop, steps.stop), (manager.restart, steps.restart), (manager.start, steps.start)):
        note = act(names, end - time.monotonic())
        if note is not None:
            notes.append(note)
    changed += steps.verbs
    return Report(
        order.host,
        staging.current(layout),
        changed=tuple(changed),
        units=unit_states(host, manager.show(units), running),
        detail={"notes": notes},
    )


def decide(units: tuple[Unit, ...], shown: Shown, running: Running) -> Steps:
    """What must happen so that each unit runs with its hash. Pure. A target is started only: others hang on it."""
    wrong = {}
    for unit in units:
        now = shown[unit.name]
        if now.get("ActiveState") not in _RUNS:
            wrong[unit.name] = "started"
        elif unit.kind != "target" and running.hash_of(unit.name, now.get("InvocationID", "")) != unit.hash:
            wrong[unit.name] = "restarted"
    names = {unit.name for unit in units}
    stop = []
    for unit in units:
        service = unit.name.removesuffix(".socket") + ".service"
        if unit.kind == "socket" and unit.name in wrong and service in names:
            # systemd binds no socket whose service runs
            if shown[service].get("ActiveState") not in ("inactive", "failed"):
                stop.append(service)
                wrong[service] = "restarted"
            if wrong[unit.name] == "restarted":
                stop.append(unit.name)
    targets = tuple(u.name for u in units if u.kind == "target" and u.name in wrong)
    restart = tuple(u.name for u in units if u.kind != "target" and u.name in wrong)
    return Steps(tuple(stop), restart, targets, tuple((u.name, wrong[u.name]) for u in units if u.name in wrong))


def unit_states(host: HostFile, shown: Shown, running: Running) -> tuple[UnitState, ...]:
    """Each unit of the generation as it is now."""
    found = []
    for unit in host.units:
        now = shown[unit.name]
        active = now.get("ActiveState", "inactive")
        pid = int(now.get("MainPID") or 0)
        runs = running.hash_of(unit.name, now.get("InvocationID", "")) if active in _RUNS else None
        found.append(UnitState(unit.name, active, pid or None, runs or None))
    return tuple(found)


def _put(order: Order, layout: Layout, files: Mapping[str, bytes], notes: list[str]) -> None:
    """User, folders, owners, link: in this order, so that whoever follows the link may read what it finds."""
    if layout.sysusers is not None and layout.tmpfiles is not None:
        owners.create_users(layout, install.install_confs(layout.sysusers, files, "sysusers.d"))
        note = owners.own(layout, order.generation)
        if note is not None:
            notes.append(note)
        owners.create_tmpfiles(layout, install.install_confs(layout.tmpfiles, files, "tmpfiles.d"))
    staging.switch(layout, order.generation)


def _remove(
    manager: Manager,
    layout: Layout,
    change: install.Change,
    kept: set[str],
    shown: Shown,
    timeout_s: float,
    changed: list[tuple[str, str]],
    notes: list[str],
) -> None:
    there = [name for name in change.gone if shown[name].get("LoadState") != "not-found"]
    note = manager.stop(there, timeout_s)
    if note is not None:
        notes.append(note)
    manager.disable([name for name in there if shown[name].get("UnitFileState") == "enabled"])
    install.remove_units(layout, change, kept)
    changed += [(name, "removed") for name in there]


def _forget(running: Running, tampered: set[str]) -> Running:
    """Somebody had changed these unit files: nobody knows with what they were started."""
    known = {u: (i, UNKNOWN if u in tampered else h) for u, (i, h) in running.known.items()}
    return Running(running.loaded, known)


def _invocations(shown: Shown) -> dict[str, str]:
    return {name: now.get("InvocationID", "") for name, now in shown.items()}


def _into_image(
    order: Order, layout: Layout, files: Mapping[str, bytes], host: HostFile, units: Mapping[str, bytes]
) -> Report:
    notes: list[str] = []
    change = install.differing(layout, units)
    _put(order, layout, files, notes)
    install.write_units(layout, units, change)
    enable_offline(layout, units, change.gone)
    install.remove_units(layout, change, set(units))
    save_running(layout, Running(host.hashes))  # what will start when it boots
    changed = [(name, "written") for name in change.written] + [(name, "removed") for name in change.gone]
    return Report(order.host, staging.current(layout), changed=tuple(changed), detail={"notes": notes})
