"""gunicorn's master for the gateway: it tells the service manager how the workers do, and leaves them time to end."""

from __future__ import annotations

import os
import time
from typing import Any

from gunicorn.arbiter import Arbiter

from cortexd.notify import Notifier

# Workers beat once a second, from their event loop.
BEAT_S = 5.0
# What a worker needs after the last request ended or was cut off: to write the ledger's rows.
MARGIN_S = 5.0


class GatewayArbiter(Arbiter):  # type: ignore[misc]
    """Ready when every worker has read the fleet from the database; the watchdog is fed while every worker beats."""

    def __init__(self, app: Any, notifier: Notifier) -> None:
        super().__init__(app)
        self._notifier = notifier
        self._ready = False

    def wait_for_signals(self, timeout: float = 1.0) -> list[Any]:
        """As gunicorn's; more often until everything is ready."""
        found: list[Any] = super().wait_for_signals(timeout if self._ready else min(timeout, 0.1))
        return found

    def manage_workers(self) -> None:
        """Called in each round of the main loop."""
        super().manage_workers()
        workers = list(self.WORKERS.values())
        if len(workers) < self.num_workers or not all(map(_is_well, workers)):
            return
        if not self._ready:
            self._ready = True
            self._notifier.ready(f"serving with {len(workers)} workers")
        self._notifier.feed()

    def stop(self, graceful: bool = True) -> None:
        """Workers get the drain time, and then a moment to write what is left."""
        self._notifier.stopping("letting answers end")
        self.cfg.set("graceful_timeout", int(self.cfg.graceful_timeout + MARGIN_S))
        super().stop(graceful)


def say_ready(worker: Any) -> None:
    """In a worker: it has read the fleet. The master sees it by the size of the file that the heartbeat touches."""
    os.ftruncate(worker.tmp.fileno(), 1)


def _is_well(worker: Any) -> bool:
    try:
        about = os.fstat(worker.tmp.fileno())
    except (OSError, ValueError):  # it is ending
        return False
    return about.st_size > 0 and time.monotonic() - about.st_mtime <= BEAT_S
