"""All programs of a state directory in the foreground: start, wait until they serve, restart what dies, stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cortexd.supervisor.child import Child
from cortexd.supervisor.lock import exclusive
from cortexd.supervisor.plan import Plan, Program, UpError, read_plan
from cortexd.supervisor.ports import check_ports
from cortexd.supervisor.ready import ask_ready, ready_text

STOP_GRACE_S = 10.0
PROGRESS_S = 5.0
ASK_S = 0.2
# Before the fleet has served once, a program that ends this often has a problem that restarting does not cure.
ENDS_BEFORE_READY = 3


def up(state_dir: Path, ready_timeout_s: float, write: Callable[[str], None], before: Callable[[], None]) -> None:
    """Run until SIGINT or SIGTERM. Raises UpError, SettingsError or LockedError; leaves no process behind.

    ``before`` is called once nothing can be in the way any more, just before the first process starts.
    """
    plan = read_plan(state_dir)
    with exclusive(state_dir / "up.lock", "cortexd up"):
        check_ports(plan.addresses)
        before()
        asyncio.run(_serve(plan, ready_timeout_s, write))


async def _serve(plan: Plan, ready_timeout_s: float, write: Callable[[str], None]) -> None:
    async def ready() -> str | None:
        return await ask_ready(plan.gateway)

    await supervise(plan.programs, ready, lambda: write(ready_text(plan)), ready_timeout_s, write)


async def supervise(
    programs: Sequence[Program],
    ready: Callable[[], Awaitable[str | None]],
    on_ready: Callable[[], None],
    ready_timeout_s: float,
    write: Callable[[str], None],
) -> None:
    """Keep ``programs`` running until a signal.

    ``ready`` says what is still missing (None: nothing). Raises UpError when that does not come about in time, or when
    a program keeps ending before it does.
    """
    stop, now, failed = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()
    serves = False

    def on_signal() -> None:
        if stop.is_set():
            now.set()  # the second Ctrl-C: no more patience
        stop.set()

    def ended(child: Child) -> None:
        if not serves and child.ends_in_a_row >= ENDS_BEFORE_READY and not failed.done():
            ends = f"{child.program.name} {child.last_exit} {child.ends_in_a_row} times"
            failed.set_result(f"{ends}; its lines above say why")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    width = max(len(program.name) for program in programs)
    children = [Child(program, width, write) for program in programs]
    running = [asyncio.create_task(child.run(ended)) for child in children]
    stopped = asyncio.create_task(stop.wait())
    readiness = asyncio.create_task(_until_ready(ready, ready_timeout_s, write))
    try:
        await asyncio.wait([stopped, readiness, failed], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            if failed.done():
                raise UpError(failed.result())
            readiness.result()
            serves = True
            on_ready()
            await stopped
    finally:
        for task in (readiness, stopped):
            task.cancel()
        await _stop_all(children, now, write)
        await asyncio.gather(*running, readiness, stopped, return_exceptions=True)


async def _until_ready(
    ready: Callable[[], Awaitable[str | None]], timeout_s: float, write: Callable[[str], None]
) -> None:
    clock = asyncio.get_running_loop().time
    started = said = clock()
    while missing := await ready():
        if clock() - started > timeout_s:
            raise UpError(f"not ready after {timeout_s:g} s: {missing}")
        if clock() - said >= PROGRESS_S:
            write(f"waiting ({clock() - started:.0f} s): {missing}")
            said = clock()
        await asyncio.sleep(ASK_S)


async def _stop_all(children: list[Child], now: asyncio.Event, write: Callable[[str], None]) -> None:
    """Clients first: the gateway drains while its neurons still answer, then everything else."""
    write("stopping; once more Ctrl-C to end it at once")
    orderly = asyncio.create_task(_orderly(children))
    impatient = asyncio.create_task(now.wait())
    await asyncio.wait([orderly, impatient], return_when=asyncio.FIRST_COMPLETED)
    impatient.cancel()
    if not orderly.done():
        for child in children:
            child.kill()
    await orderly
    await asyncio.gather(impatient, return_exceptions=True)
    write("stopped")


async def _orderly(children: list[Child]) -> None:
    first = [child for child in children if child.program.name == "gateway"]
    for group in (first, [child for child in children if child not in first]):
        await asyncio.gather(*(child.stop(STOP_GRACE_S) for child in group))
