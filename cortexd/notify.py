"""What a program says to the service manager that started it: ready, working, loading, stopping. Standard library only.

Without a manager (``cortexd up``, a terminal) every method does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

log = logging.getLogger(__name__)


class Notifier:
    """``address``: the manager's socket. ``watchdog_s``: it ends a service that is silent for so long (None: never).

    Any thread may call it, and a process that was forked. A message that the manager does not take is lost, not raised.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self.watchdog_s = watchdog_s if address else None
        self._clock = clock
        self._fed_at: float | None = None
        self._status = ""

    @classmethod
    def take(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """What the environment names, and removes it there: libraries must not speak for us, nor children."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", None)
        watched = microseconds.isdigit() and int(microseconds) > 0 and pid in (None, str(os.getpid()))
        return cls(address, int(microseconds) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """The program serves."""
        self._send("READY=1", f"STATUS={status}")
        self._status = status

    def status(self, status: str) -> None:
        """One line for ``systemctl status``; sent when it is another one."""
        if status != self._status:
            self._send(f"STATUS={status}")
            self._status = status

    def feed(self) -> None:
        """There was progress. May be called as often as one likes: a quarter of the watchdog's time apart is sent."""
        if self.watchdog_s is None:
            return
        now = self._clock()
        if self._fed_at is None or now - self._fed_at >= self.watchdog_s / 4:
            self._fed_at = now
            self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """The start takes at least so much longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self, status: str) -> None:
        """The program ends itself, or was told to."""
        self._send("STOPPING=1", f"STATUS={status}")
        self._status = status

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL byte that begins the name of a socket without a file
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(1)
                sock.connect(address)
                sock.sendall("\n".join(lines).encode("utf-8"))
        except OSError as e:
            log.debug("the service manager did not take a message: %s", e)
