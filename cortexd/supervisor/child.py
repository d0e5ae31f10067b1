"""One program of ``up``: its process, its lines, its restarts. Runs in the supervisor's asyncio thread."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

from cortexd.supervisor.plan import Program

RESTART_FIRST_S = 0.5
RESTART_MOST_S = 10.0
# A process that lived this long was healthy: its next end starts the back-off anew.
STEADY_S = 30.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def restart_delay_s(ends_in_a_row: int) -> float:
    """0.5 s after the first end, doubled each time, at most 10 s."""
    return float(min(RESTART_FIRST_S * 2 ** min(ends_in_a_row - 1, 10), RESTART_MOST_S))


class Child:
    """Keeps ``program`` running until ``stop``. ``write`` takes one line; ``ended`` hears of each unexpected end."""

    def __init__(self, program: Program, width: int, write: Callable[[str], None]) -> None:
        self.program = program
        self.ends_in_a_row = 0
        self.last_exit: str = ""
        self._prefix = f"{program.name:<{width}} | "
        self._line = write
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self, ended: Callable[[Child], None]) -> None:
        """Start, wait, start again with back-off; returns after ``stop``."""
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started = clock()
            try:
                await self._once()
            except OSError as e:
                self.last_exit = f"cannot start: {e.strerror}"
            if self._stopping.is_set():
                return
            self.ends_in_a_row = 1 if clock() - started > STEADY_S else self.ends_in_a_row + 1
            delay = restart_delay_s(self.ends_in_a_row)
            ended(self)
            self._write(f"{self.last_exit}; starting again in {delay:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, at most ``grace_s`` seconds, then SIGKILL for what is left of its process group."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(grace_s):
                    await process.wait()
            except TimeoutError:
                self._write(f"did not end within {grace_s:g} s of SIGTERM; killed")
        self.kill()
        await process.wait()

    def kill(self) -> None:
        """SIGKILL to the whole process group, which only this program's processes are in."""
        self._stopping.set()
        if self._process is not None:
            self._kill_group(self._process.pid)

    async def _once(self) -> None:
        # A pipe of our own: asyncio's wait() would also wait for workers that outlive their master and hold its pipe.
        reader, writer = os.pipe()
        copying = asyncio.create_task(self._copy(reader))
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # a Ctrl-C of the terminal reaches us alone; we tell the others
                preexec_fn=_die_with_parent(os.getpid()),
            )
        finally:
            os.close(writer)
        if self._stopping.is_set():  # stop came while the process was being made
            self.kill()
        code = await process.wait()
        self.last_exit = f"exited with status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        if not self._stopping.is_set():
            self._kill_group(process.pid)  # workers of a dead master would hold the port
            self._process = None
        await asyncio.wait([copying], timeout=1)
        copying.cancel()

    @staticmethod
    def _kill_group(leader: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)

    def _write(self, line: str) -> None:
        self._line(self._prefix + line)

    async def _copy(self, descriptor: int) -> None:
        """Pass lines on, until every writer is gone; a line that is longer than a chunk is passed on in pieces."""
        stream = asyncio.StreamReader()
        pipe = os.fdopen(descriptor, "rb", buffering=0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
        rest = b""
        try:
            while chunk := await stream.read(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._write(line.decode("utf-8", "replace").rstrip("\r"))
                if len(rest) > 1 << 16:
                    self._write(rest.decode("utf-8", "replace"))
                    rest = b""
        finally:
            if rest:
                self._write(rest.decode("utf-8", "replace"))
            transport.close()


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """On Linux, ask the kernel for SIGTERM when the supervisor dies, even by SIGKILL. Runs between fork and exec."""
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return arm
