"""The controller's process: settings in, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import httpx

from cortexd.controller.loop import Controller
from cortexd.notify import Notifier
from cortexd.settings import ControlSettings, database_url
from cortexd.store.connect import connect_async

log = logging.getLogger("cortexd.controller")


class ControllerError(Exception):
    """The controller cannot start; the message says what to do."""


def refuse_gevent() -> None:
    """Raise ControllerError in a process that gevent patched: one blocking call would stop every poll."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and (monkey.is_module_patched("threading") or monkey.is_module_patched("socket")):
        raise ControllerError("the controller does not run under gevent; start its own process: cortexd controller")


def run(settings: ControlSettings, state_dir: Path) -> None:
    """Run until SIGTERM or SIGINT. Raises ControllerError before anything started."""
    refuse_gevent()
    asyncio.run(_serve(settings, state_dir))


async def _serve(settings: ControlSettings, state_dir: Path) -> None:
    notifier, served = Notifier.take(), False

    def rounded(database_answers: bool) -> None:
        # A database that is away is no reason to start again: the rounds go on, and so does the watchdog.
        nonlocal served
        if database_answers and not served:
            served = True
            notifier.ready("watching the fleet")
        elif served:
            notifier.status("watching the fleet" if database_answers else "the database does not answer")
        notifier.feed()

    def on_signal() -> None:
        notifier.stopping("stopping")
        stop.set()

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # no signal handlers in the event loop of Windows
            loop.add_signal_handler(number, on_signal)
    engine = connect_async(database_url(settings.database.url, state_dir))
    # Timeouts are per call (asyncio.timeout), connections bounded by the gate of the polls.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30)
    try:
        async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as http:  # noqa: S113
            await Controller(engine, http, settings.controller, state_dir).run(stop, rounded)
    finally:
        await engine.dispose()
    log.info("controller stopped")
