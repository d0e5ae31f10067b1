"""What the model may call: its words for it, what is allowed in which mode, and the doing."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import orjson
from acp.exceptions import RequestError
from acp.helpers import (
    ToolCallContentVariant,
    text_block,
    tool_content,
    tool_diff_content,
    tool_terminal_ref,
    update_tool_call,
)
from acp.interfaces import Client
from acp.schema import ClientCapabilities, ToolCallLocation, ToolKind

from cortexd.acp import shell
from cortexd.acp.workspace import ToolError, Workspace, bounded
from cortexd.protocol.request import Tool

Mode = Literal["default", "plan", "bypassPermissions"]
WRITES = frozenset({"write_file", "edit_file"})
KINDS: dict[str, ToolKind] = {
    "read_file": "read",
    "write_file": "edit",
    "edit_file": "edit",
    "list_dir": "read",
    "search": "search",
    "bash": "execute",
}


def _tool(name: str, description: str, required: dict[str, str], optional: dict[str, str] | None = None) -> Tool:
    kinds = {"line": "integer", "limit": "integer"}
    told = required | (optional or {})
    properties = {key: {"type": kinds.get(key, "string"), "description": text} for key, text in told.items()}
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(required)})


_PATH = "path, absolute or from the root of the workspace"
TOOLS = (
    _tool(
        "read_file",
        "Read a text file of the workspace.",
        {"path": _PATH},
        {"line": "first line, from 1", "limit": "number of lines"},
    ),
    _tool("write_file", "Write a whole text file, new or old.", {"path": _PATH, "content": "the whole text"}),
    _tool(
        "edit_file",
        "Replace one piece of a text file. old_text must occur exactly once.",
        {"path": _PATH, "old_text": "what is there now", "new_text": "what comes in its place"},
    ),
    _tool("list_dir", "List a folder of the workspace.", {"path": _PATH}),
    _tool(
        "search",
        "Find lines that contain a text literally, in all text files below a path.",
        {"text": "what to look for"},
        {"path": _PATH},
    ),
    _tool("bash", "Run a command with bash in the root of the workspace.", {"command": "the command line"}),
)
NAMES = frozenset(tool.name for tool in TOOLS)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was understood: ``path`` is inside the workspace. ``diff`` is (old, new) of a write."""

    name: str
    arguments: dict[str, Any]
    title: str
    path: Path | None = None
    diff: tuple[str | None, str] | None = None

    @property
    def locations(self) -> list[ToolCallLocation]:
        """Where the editor may look while it runs."""
        line = self.arguments.get("line")
        return [] if self.path is None else [ToolCallLocation(path=str(self.path), line=cast("int | None", line))]

    @property
    def content(self) -> list[ToolCallContentVariant]:
        """What the editor shows before it is allowed."""
        if self.diff is None or self.path is None:
            return []
        return [tool_diff_content(str(self.path), self.diff[1], self.diff[0])]


@dataclass(frozen=True, slots=True)
class Hands:
    """The tools of one session: its workspace, and what its editor offers."""

    editor: Client
    capabilities: ClientCapabilities
    session_id: str
    workspace: Workspace
    plan_dir: str
    timeout_s: float

    async def understand(self, name: str, arguments: str, mode: Mode) -> Call:
        """Raises ToolError for what is unknown, malformed, outside of the workspace or not allowed in this mode."""
        if name not in NAMES:
            raise ToolError(f"there is no tool {name!r}; there are: {', '.join(sorted(NAMES))}")
        given = _arguments(name, arguments)
        if mode == "plan" and name == "bash":
            raise ToolError("mode plan runs no commands")
        if name == "bash":
            return Call(name, given, given["command"][:200])
        path = await asyncio.to_thread(self.workspace.path, given.get("path", "."))
        if name in WRITES:
            if mode == "plan" and not path.is_relative_to(self.workspace.root / self.plan_dir):
                raise ToolError(f"mode plan writes only below {self.plan_dir}/")
            await asyncio.to_thread(self.workspace.check_writable, path)
            old = await self._text(path) if await asyncio.to_thread(path.exists) else None
            new = given["content"] if name == "write_file" else _edited(path, old, given)
            return Call(name, given, f"{name} {path.relative_to(self.workspace.root)}", path, (old, new))
        return Call(name, given, f"{name} {path.relative_to(self.workspace.root)}", path)

    async def do(self, call: Call, call_id: str) -> tuple[str, bool, list[ToolCallContentVariant]]:
        """(what the model is told, whether it went well, what the editor shows). Raises ToolError."""
        path = call.path
        if path is None:
            return await self._bash(call.arguments["command"], call_id)
        if call.diff is not None:
            # asked again: the permission may have taken long, and links may have changed
            await asyncio.to_thread(self.workspace.path, str(path))
            await self._write(path, call.diff[1])
            return f"written: {path.relative_to(self.workspace.root)}", True, call.content
        if call.name == "list_dir":
            told = await asyncio.to_thread(self.workspace.list_dir, path)
        elif call.name == "search":
            told = await asyncio.to_thread(self.workspace.search, call.arguments["text"], path)
        else:
            # as editors count lines: str.splitlines knows more ends than they do
            lines = list(io.StringIO(await self._text(path), newline="\n"))
            first = max(1, call.arguments.get("line", 1)) - 1
            told = "".join(lines[first:][: call.arguments.get("limit")])
        told = bounded(told)
        return told, True, [tool_content(text_block(told))]

    async def _text(self, path: Path) -> str:
        """Through the editor where it can: it knows what is not saved yet."""
        fs = self.capabilities.fs
        if not (fs and fs.read_text_file):
            return await asyncio.to_thread(self.workspace.read, path)
        if await asyncio.to_thread(path.exists):
            await asyncio.to_thread(self.workspace.check_readable, path)
        try:
            return (await self.editor.read_text_file(session_id=self.session_id, path=str(path))).content
        except RequestError as e:
            raise ToolError(f"{path}: the editor could not read it: {e}") from e

    async def _write(self, path: Path, text: str) -> None:
        fs = self.capabilities.fs
        if not (fs and fs.write_text_file):
            await asyncio.to_thread(self.workspace.write, path, text)
            return
        try:
            await self.editor.write_text_file(session_id=self.session_id, path=str(path), content=text)
        except RequestError as e:
            raise ToolError(f"{path}: the editor could not write it: {e}") from e

    async def _bash(self, command: str, call_id: str) -> tuple[str, bool, list[ToolCallContentVariant]]:
        content: list[ToolCallContentVariant] = []

        async def shown(terminal_id: str) -> None:
            content.append(tool_terminal_ref(terminal_id))
            await self.editor.session_update(self.session_id, update_tool_call(call_id, content=content))

        try:
            if self.capabilities.terminal:
                told, well = await shell.in_terminal(
                    self.editor, self.session_id, command, self.workspace.root, self.timeout_s, shown
                )
            else:
                told, well = await shell.as_process(command, self.workspace.root, self.timeout_s)
        except (RequestError, OSError) as e:
            raise ToolError(f"the command could not be run: {e}") from e
        told = bounded(told)
        return told, well, content or [tool_content(text_block(told))]


def _arguments(name: str, text: str) -> dict[str, Any]:
    try:
        given = orjson.loads(text or "{}")
    except ValueError as e:
        raise ToolError(f"the arguments of {name} are not JSON: {e}") from e
    if not isinstance(given, dict):
        raise ToolError(f"the arguments of {name} must be an object")
    schema = cast(dict[str, Any], next(t for t in TOOLS if t.name == name).parameters)
    for key in schema["required"]:
        if key not in given:
            raise ToolError(f"{name} needs {key}")
    for key, value in given.items():
        if (told := schema["properties"].get(key)) is None:
            raise ToolError(f"{name} knows no {key}; it knows: {', '.join(schema['properties'])}")
        kind = int if told["type"] == "integer" else str
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 1):
            raise ToolError(f"{name}: {key} must be {'a whole number above 0' if kind is int else 'text'}")
    return given


def _edited(path: Path, old: str | None, given: dict[str, Any]) -> str:
    if old is None:
        raise ToolError(f"{path}: does not exist; write_file makes new files")
    if not given["old_text"]:
        raise ToolError("old_text must not be empty")
    if (count := old.count(given["old_text"])) != 1:
        raise ToolError(f"{path}: old_text occurs {count} times; it must occur exactly once")
    return old.replace(given["old_text"], given["new_text"])
