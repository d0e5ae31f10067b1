"""Sessions on disk: one file each, readable by their user only, whole after every crash. Blocking."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from cortexd.protocol.request import Image, Message, Text, ToolCall

SCHEMA = 1
ID = re.compile(r"[0-9a-f]{32}")
LOST = "The agent ended before this call did."

log = logging.getLogger(__name__)


class StoreError(Exception):
    """A session that is not there or cannot be read or written; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Saved:
    """``cwd`` is the workspace, ``updated_at`` ISO 8601 in UTC, ``title`` the beginning of the first prompt."""

    id: str
    cwd: str
    endpoint: str
    model: str
    mode: str
    title: str
    updated_at: str
    history: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Store:
    """``folder`` need not exist."""

    folder: Path

    def save(self, id: str, cwd: str, endpoint: str, model: str, mode: str, history: tuple[Message, ...]) -> None:
        """Replaces the session's file as a whole. Raises StoreError."""
        title = next((m.text for m in history if m.role == "user"), "").strip().split("\n")[0][:80]
        saved = Saved(id, cwd, endpoint, model, mode, title, datetime.now(UTC).isoformat(), history)
        beside = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps({"schema": SCHEMA} | asdict(saved)))
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(self._path(id))
            finally:
                beside.unlink(missing_ok=True)
        except (OSError, TypeError) as e:
            raise StoreError(f"the session could not be saved in {self.folder}: {e}") from e

    def load(self, id: str) -> Saved:
        """With a result for each call, also where the process was killed between the two. Raises StoreError."""
        path = self._path(id)
        try:
            raw = orjson.loads(path.read_bytes())
            if raw.pop("schema") != SCHEMA:
                raise ValueError("it is of another version")
            history = tuple(_message(m) for m in raw.pop("history"))
            return Saved(**{k: str(v) for k, v in raw.items()}, history=_complete(history))
        except FileNotFoundError:
            raise StoreError(f"there is no session {id!r} in {self.folder}") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
            raise StoreError(f"{path}: this session cannot be read: {e}") from e

    def forget(self, id: str) -> None:
        """Nothing happens where there is none. Raises StoreError."""
        try:
            self._path(id).unlink(missing_ok=True)
        except OSError as e:
            raise StoreError(f"the session could not be removed from {self.folder}: {e}") from e

    def list_all(self, cwd: str | None = None) -> list[Saved]:
        """Newest first; those of one workspace where it is given. What cannot be read is logged and left out."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                saved = self.load(path.stem)
            except StoreError as e:
                log.warning("%s", e)
                continue
            if cwd is None or saved.cwd == cwd:
                found.append(saved)
        return sorted(found, key=lambda s: s.updated_at, reverse=True)

    def _path(self, id: str) -> Path:
        if not ID.fullmatch(id):
            raise StoreError(f"there is no session {id!r}")
        return self.folder / f"{id}.json"


def sessions_folder(environment: Mapping[str, str]) -> Path:
    """In the user's folder of data."""
    data = environment.get("XDG_DATA_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".local" / "share")
    return Path(data) / "cortexd" / "acp" / "sessions"


def _message(raw: dict[str, Any]) -> Message:
    content = tuple(Image(**part) if "url" in part else Text(**part) for part in raw.pop("content"))
    calls = tuple(ToolCall(**call) for call in raw.pop("tool_calls"))
    return Message(**raw, content=content, tool_calls=calls)


def _complete(history: tuple[Message, ...]) -> tuple[Message, ...]:
    found: list[Message] = []
    missing: list[ToolCall] = []
    for message in (*history, None):
        if message is not None and message.role == "tool":
            missing = [call for call in missing if call.id != message.tool_call_id]
        else:
            found += [Message("tool", (Text(LOST),), tool_call_id=call.id, tool_failed=True) for call in missing]
            missing = [] if message is None else list(message.tool_calls)
        if message is not None:
            found.append(message)
    return tuple(found)
