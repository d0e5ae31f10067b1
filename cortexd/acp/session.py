"""One conversation of an editor: its history, its model and its mode."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from cortexd.acp.config import Config, Endpoint
from cortexd.acp.store import Store
from cortexd.acp.tools import Hands, Mode
from cortexd.acp.workspace import ToolError, Workspace
from cortexd.protocol.request import Message, Text

MAX_AGENTS_MD_CHARS = 32_000
MODES: dict[Mode, tuple[str, str]] = {
    "default": ("Ask", "Every tool call asks first"),
    "plan": ("Plan", "Reads, and writes only into the folder for plans; no commands"),
    "bypassPermissions": ("Bypass permissions", "Tool calls run without asking"),
}


@dataclass(slots=True)
class Session:
    """Lives on one event loop. ``models`` are the choices ``endpoint:model``; ``turn`` is the prompt that runs.

    ``allowed`` are the tools that the user allowed for the whole session. ``cancelled`` is set before ``turn`` is
    cancelled, so that it can be told from the end of the process.
    """

    id: str
    hands: Hands
    endpoint: Endpoint
    model: str
    models: list[str]
    config: Config
    store: Store
    mode: Mode = "default"
    history: list[Message] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)
    turn: asyncio.Task[Any] | None = None
    cancelled: bool = False

    @property
    def selected(self) -> str:
        """``endpoint:model``."""
        return f"{self.endpoint.name}:{self.model}"

    def choose(self, endpoint: Endpoint, model: str) -> None:
        """From the next request on. Signatures of reasoning go: only their maker takes them back."""
        if (endpoint, model) != (self.endpoint, self.model):
            self.endpoint, self.model = endpoint, model
            self.history[:] = [unsigned(message) for message in self.history]

    async def save(self) -> None:
        """Durable when this returns; nothing is written before the first prompt. Raises StoreError."""
        if self.history:
            # asked for by name once more after a restart
            mode = "default" if self.mode == "bypassPermissions" else self.mode
            args = (self.id, str(self.hands.workspace.root), self.endpoint.name, self.model, mode)
            await asyncio.to_thread(self.store.save, *args, tuple(self.history))

    async def forget(self) -> None:
        """Its file goes. Raises StoreError."""
        await asyncio.to_thread(self.store.forget, self.id)


def unsigned(message: Message) -> Message:
    """Without the signature of its reasoning."""
    return replace(message, reasoning_signature=None)


def system_turn(workspace: Workspace, mode: Mode, plan_dir: str) -> Message:
    """What the model is told first: where it is, how it may act, and the workspace's ``AGENTS.md``."""
    said = [
        "You are a coding agent inside the user's editor. Use the tools to look at the workspace before you answer "
        "questions about it, and to change it when you are asked to. Be brief.",
        f"The workspace is {workspace.root}. Nothing outside of it can be read or written.",
    ]
    if mode == "plan":
        said.append(f"Mode plan: change nothing; no commands. You may write a plan into {plan_dir}/.")
    try:
        rules = workspace.read(workspace.path("AGENTS.md"))
    except ToolError:  # none, or none that can be read as text: an agent works without
        rules = ""
    if rules.strip():
        said.append(f"The workspace's AGENTS.md says:\n\n{rules[:MAX_AGENTS_MD_CHARS]}")
    return Message("system", (Text("\n\n".join(said)),))
