"""One agent at a time on a host: also against one that is still at work after its ssh was killed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cortexd.deploy.host.protocol import HostError


@contextmanager
def host_lock(state: Path, timeout_s: float) -> Iterator[None]:
    """Hold ``STATE/.host.lock``. Raises HostError after ``timeout_s``. The kernel lets go when the process ends."""
    handle = os.open(state / ".host.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise HostError(f"another `cortexd host` is at work on {state}; wait for it") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
