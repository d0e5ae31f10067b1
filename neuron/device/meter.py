"""What did a load really take? The device's memory before and after it; None where nothing honest can be said.

On CUDA the driver tells what is in use on the device, by whomever. On a CPU it is the whole process that grows: so two
loads at the same time, or a reading that failed, measure nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

from neuron.device.probe import ProbeError

_STATM = Path("/proc/self/statm")
_lock = threading.Lock()
_running = 0  # meters in the whole process
_disturbed = 0  # grows whenever two of them overlap


class Meter:
    """Reads when it is made and when ``grown`` is called. One thread; others may have meters of their own.

    ``used`` tells the bytes in use now; it raises ProbeError or OSError where it cannot. ``alone``: it tells of the
    whole process, so that a meter beside this one would count the same bytes.
    """

    def __init__(self, used: Callable[[], int], *, alone: bool) -> None:
        global _running, _disturbed
        self._used = used
        self._alone = alone
        with _lock:
            _running += 1
            _disturbed += _running > 1
            self._disturbed = _disturbed
            self._open = True
        self._before = self._now()

    def grown(self) -> int | None:
        """Bytes more than at the start, at least 0."""
        now = self._now()
        with _lock:
            quiet = not self._alone or (self._disturbed == _disturbed and _running == 1)
        if now is None or self._before is None or not quiet:
            return None
        return max(now - self._before, 0)

    def close(self) -> None:
        """Nothing is measured any more."""
        global _running
        with _lock:
            _running -= self._open
            self._open = False

    def _now(self) -> int | None:
        try:
            return self._used()
        except (ProbeError, OSError, ValueError):
            return None


def process_bytes() -> int:
    """Resident memory of this process, once freed memory went back to the system. Raises OSError where nobody tells."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
