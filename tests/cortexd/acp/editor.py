"""An editor: the library's own client side, with the agent as a process at the other end of two pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from acp import PROTOCOL_VERSION, spawn_agent_process
from acp.client.connection import ClientSideConnection
from acp.schema import (
    AllowedOutcome,
    ClientCapabilities,
    CreateTerminalResponse,
    DeniedOutcome,
    FileSystemCapabilities,
    InitializeResponse,
    NewSessionResponse,
    ReadTextFileResponse,
    RequestPermissionResponse,
    TerminalOutputResponse,
    WaitForTerminalExitResponse,
)

ROOT = Path(__file__).resolve().parents[3]
ALL = ClientCapabilities(fs=FileSystemCapabilities(read_text_file=True, write_text_file=True), terminal=True)


class Editor:
    """Answers permissions with ``choices`` in order, then with ``once``; keeps everything that it was told."""

    def __init__(self) -> None:
        self.updates: list[Any] = []
        self.asked: list[Any] = []
        self.choices: list[str | None] = []
        self.unsaved: dict[str, str] = {}
        self.written: dict[str, str] = {}
        self.commands: list[str] = []
        self.pid = 0
        self.killed = False
        self.released = 0
        self.told = asyncio.Event()
        self.agent: ClientSideConnection
        self.started: InitializeResponse

    def on_connect(self, conn: Any) -> None:
        pass

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.updates.append(update)
        if update.session_update == "agent_message_chunk":
            self.told.set()

    async def request_permission(self, session_id: str, tool_call: Any, options: Any, **_: Any) -> Any:
        self.asked.append(tool_call)
        choice = self.choices.pop(0) if self.choices else "once"
        if choice is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=choice))

    async def read_text_file(self, session_id: str, path: str, **_: Any) -> ReadTextFileResponse:
        return ReadTextFileResponse(content=self.unsaved[path])

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> None:
        self.written[path] = content

    async def create_terminal(self, command: str, args: list[str], **_: Any) -> CreateTerminalResponse:
        self.commands.append(" ".join([command, *args]))
        return CreateTerminalResponse(terminal_id="t1")

    async def wait_for_terminal_exit(self, **_: Any) -> WaitForTerminalExitResponse:
        return WaitForTerminalExitResponse(exit_code=3)

    async def terminal_output(self, **_: Any) -> TerminalOutputResponse:
        return TerminalOutputResponse(output="from the terminal", truncated=False)

    async def release_terminal(self, **_: Any) -> None:
        self.released += 1

    def text(self, kind: str = "agent_message_chunk") -> str:
        return "".join(u.content.text for u in self.updates if u.session_update == kind)

    def of(self, kind: str) -> list[Any]:
        return [u for u in self.updates if u.session_update == kind]

    def kill(self) -> None:
        self.killed = True
        os.kill(self.pid, signal.SIGKILL)

    async def new(self, folder: Path) -> NewSessionResponse:
        return await self.agent.new_session(cwd=str(folder), mcp_servers=[])

    async def prompt(self, session: NewSessionResponse, *blocks: Any) -> Any:
        made = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
        return await self.agent.prompt(session_id=session.session_id, prompt=made)


@asynccontextmanager
async def editing(env: dict[str, str], capabilities: ClientCapabilities | None = None) -> AsyncIterator[Editor]:
    """The agent started as an editor starts it; it must end by itself when the pipes close."""
    editor = Editor()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORTEXD_", "XDG_"))}
    async with spawn_agent_process(
        lambda _: editor,  # type: ignore[arg-type,return-value]
        sys.executable,
        "-m",
        "cortexd",
        "acp",
        env=kept | {"PYTHONPATH": str(ROOT)} | env,
    ) as (agent, process):
        editor.agent = agent
        editor.pid = process.pid
        editor.started = await agent.initialize(PROTOCOL_VERSION, capabilities or ClientCapabilities())
        yield editor
    assert process.returncode == (-signal.SIGKILL if editor.killed else 0)
