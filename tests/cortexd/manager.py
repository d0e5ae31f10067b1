"""A service manager's socket, to hear what a program says to it."""

from __future__ import annotations

import socket
import time
from pathlib import Path


class Manager:
    """Listens at ``address`` (NOTIFY_SOCKET)."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self.heard: list[str] = []

    def listen(self, seconds: float = 0.0) -> list[str]:
        """Every line so far, after at least ``seconds`` of listening."""
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                self.heard += self._socket.recv(4096).decode().splitlines()
            except TimeoutError:
                return self.heard

    def wait_for(self, line: str, seconds: float = 20.0) -> list[str]:
        """What was heard until ``line``."""
        deadline = time.monotonic() + seconds
        while line not in self.heard:
            assert time.monotonic() < deadline, f"{line} was not among {self.heard}"
            self.listen(0.05)
        return self.heard

    def environment(self, watchdog_s: float = 1.0) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}

    def close(self) -> None:
        self._socket.close()
