"""ready: wait until every unit of the generation is active and answers, and say what is missing when it does not."""

from __future__ import annotations

import time
from collections.abc import Mapping

from cortexd.deploy.host import staging
from cortexd.deploy.host.activate import unit_states
from cortexd.deploy.host.answers import Answer, ask_url
from cortexd.deploy.host.hostfile import HostFile, Unit, read_host_file
from cortexd.deploy.host.layout import Layout
from cortexd.deploy.host.manager import Manager
from cortexd.deploy.host.protocol import Order, Report
from cortexd.deploy.host.running import Running, load_running

# A unit that crashed so often since it was started will not come up by waiting.
CRASHES = 3
_POLL_S = 0.25
_QUICK_S = 0.05


def ready(order: Order, layout: Layout) -> Report:
    """Blocks at most ``order.timeout_s``; ends at once when a unit has failed for good. Raises HostError, OSError."""
    current = staging.current(layout)
    if current != order.generation:
        problem = f"{layout.etc} points to {current or 'nothing'} instead of {order.generation}"
        return Report(order.host, current, problems=(problem,))
    if layout.variant is None or layout.mode == "image":
        return Report(order.host, current)
    host = read_host_file(staging.read_generation(layout, current))
    manager = Manager(layout.mode == "user")
    manager.check()
    running = load_running(layout)
    end = time.monotonic() + order.timeout_s
    pause = _QUICK_S
    while True:
        shown = manager.show([unit.name for unit in host.units])
        missing = {unit.name: judge(unit, shown[unit.name], running) for unit in host.units}
        hopeless = [name for name, answer in missing.items() if answer is not None and answer.final]
        if not any(missing.values()) or hopeless or time.monotonic() >= end:
            break
        time.sleep(pause)
        pause = min(_POLL_S, pause * 1.5)
    return Report(
        order.host,
        current,
        units=unit_states(host, shown, running),
        problems=_problems(host, manager, shown, missing, () if hopeless else (order.timeout_s,)),
    )


def judge(unit: Unit, now: Mapping[str, str], running: Running) -> Answer | None:
    """None when the unit is ready, else what is missing. Asks its URL."""
    state = now.get("ActiveState", "inactive")
    if now.get("LoadState") != "loaded":
        return Answer(f"is {now.get('LoadState', 'not there')}", final=True)
    if state == "failed":
        return Answer(f"failed ({now.get('Result', 'unknown')})", final=True)
    if state != "active":
        crashed = int(now.get("NRestarts") or 0)
        after = f", after {crashed} crash{'es' if crashed > 1 else ''}" if crashed else ""
        return Answer(f"is {state} ({now.get('SubState', '')}){after}", final=crashed >= CRASHES)
    if now.get("Job", "0") not in ("", "0"):
        return Answer("has work to do for systemd")
    runs = running.hash_of(unit.name, now.get("InvocationID", ""))
    if unit.kind != "target" and runs != unit.hash:
        return Answer("runs with the settings of another generation; it was not restarted")
    return ask_url(unit.ready) if unit.ready else None


def _problems(
    host: HostFile,
    manager: Manager,
    shown: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, Answer | None],
    waited: tuple[float, ...],
) -> tuple[str, ...]:
    found = []
    for unit in host.units:
        answer = missing[unit.name]
        if answer is None:
            continue
        after = f" (waited {waited[0]:.0f} s)" if waited and not answer.final else ""
        text = f"{unit.name} {answer.text}{after}"
        now = shown[unit.name]
        crashed = int(now.get("NRestarts") or 0) > 0
        lines = manager.journal(unit.name, now.get("InvocationID", ""), crashed) if unit.kind != "target" else []
        if lines:
            text += "; its journal ends with:\n" + "\n".join(f"    {line}" for line in lines)
        found.append(text)
    return tuple(found)
