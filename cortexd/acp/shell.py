"""One command with bounded time and output: in the editor's terminal where it has one, else as a process of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from acp.interfaces import Client

from cortexd.acp.workspace import MAX_OUTPUT_CHARS

# How long output may still come after its command has ended.
LAST_OUTPUT_S = 1.0
# Told as soon as there is one, so that the editor can show it live.
Shown = Callable[[str], Awaitable[None]]


async def in_terminal(
    editor: Client, session_id: str, command: str, root: Path, timeout_s: float, shown: Shown
) -> tuple[str, bool]:
    """(what the model is told, whether it went well). The terminal ends with it, also when this is cancelled."""
    made = await editor.create_terminal(
        session_id=session_id,
        command="bash",
        args=["-c", command],
        cwd=str(root),
        output_byte_limit=MAX_OUTPUT_CHARS,
    )
    terminal = made.terminal_id
    try:
        await shown(terminal)
        code: int | None = None
        late = False
        ended = ""
        try:
            ended_as = await asyncio.wait_for(editor.wait_for_terminal_exit(session_id, terminal), timeout_s)
            code = ended_as.exit_code
            ended = ended_as.signal or ""
        except TimeoutError:
            late = True
            await editor.kill_terminal(session_id, terminal)
        output = await editor.terminal_output(session_id, terminal)
    finally:
        # releasing kills what still runs
        with contextlib.suppress(Exception):
            await asyncio.shield(editor.release_terminal(session_id, terminal))
    return _told(output.output, output.truncated, code, ended, timeout_s if late else None)


async def as_process(command: str, root: Path, timeout_s: float) -> tuple[str, bool]:
    """As ``in_terminal``. The command gets a session of its own, which is killed whole; no standard input."""
    # a pipe of our own: asyncio's waits for its end, which whoever left the session can hold open
    ours, theirs = os.pipe()
    kept = _Tail()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: kept, os.fdopen(ours, "rb", 0))
    late = False
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                command,
                cwd=root,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            late = True
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(kept.ended.wait(), LAST_OUTPUT_S)
    finally:
        transport.close()
    code = process.returncode
    ended = signal.Signals(-code).name if code is not None and code < 0 else ""
    return _told(bytes(kept.data).decode("utf-8", "replace"), kept.cut, code, ended, timeout_s if late else None)


class _Tail(asyncio.Protocol):
    """The last bytes of an output that may never end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.cut = False
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > MAX_OUTPUT_CHARS:
            del self.data[:-MAX_OUTPUT_CHARS]
            self.cut = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


def _told(output: str, cut: bool, code: int | None, ended: str, late_s: float | None) -> tuple[str, bool]:
    if late_s is not None:
        how = f"stopped after {late_s:g} s"
    elif ended:
        how = f"ended by {ended}"
    else:
        how = f"exit status {code}"
    lead = "(only the end of the output)\n" if cut else ""
    return f"{lead}{output.rstrip()}\n[{how}]".lstrip(), late_s is None and code == 0
