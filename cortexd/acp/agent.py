"""What the editor calls. Every mistake comes back as a JSON-RPC error whose message the editor shows."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from acp import PROTOCOL_VERSION, RequestError, run_agent
from acp.helpers import update_agent_message_text, update_available_commands
from acp.interfaces import Agent, Client
from acp.schema import (
    AgentCapabilities,
    ClientCapabilities,
    ConfigOptionUpdate,
    CurrentModeUpdate,
    Implementation,
    InitializeResponse,
    ListSessionsResponse,
    LoadSessionResponse,
    NewSessionResponse,
    PromptCapabilities,
    PromptResponse,
    SessionCapabilities,
    SessionConfigOptionSelect,
    SessionConfigSelectOption,
    SessionInfo,
    SessionListCapabilities,
    SessionMode,
    SessionModeState,
    SetSessionConfigOptionResponse,
    SetSessionModeResponse,
)

from cortexd import __version__
from cortexd.acp.answer import user_turn
from cortexd.acp.choices import first_model, listed_models
from cortexd.acp.commands import COMMANDS, choose_model, run_command
from cortexd.acp.config import ConfigError, load_config
from cortexd.acp.replay import replay
from cortexd.acp.session import MODES, Session, unsigned
from cortexd.acp.store import Saved, Store, StoreError, sessions_folder
from cortexd.acp.tools import Hands
from cortexd.acp.turn import run_turn
from cortexd.acp.upstream import Upstream, UpstreamError
from cortexd.acp.workspace import Workspace

INVALID, INTERNAL = -32602, -32603
PAGE = 50


class EditorAgent:
    """All sessions of one editor, on one event loop."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._upstream = Upstream()
        self._store = Store(sessions_folder(environment))
        self._sessions: dict[str, Session] = {}
        self._capabilities = ClientCapabilities()
        self._editor: Client | None = None
        self._announcing: set[asyncio.Task[None]] = set()

    def on_connect(self, conn: Client) -> None:
        """The library's way to hand us the other side."""
        self._editor = conn

    async def initialize(
        self, protocol_version: int, client_capabilities: ClientCapabilities | None = None, **_: Any
    ) -> InitializeResponse:
        """What this agent can, and what it may use of the editor."""
        self._capabilities = client_capabilities or ClientCapabilities()
        return InitializeResponse(
            protocol_version=min(protocol_version, PROTOCOL_VERSION),
            agent_capabilities=AgentCapabilities(
                load_session=True,
                prompt_capabilities=PromptCapabilities(image=True, embedded_context=True),
                session_capabilities=SessionCapabilities(list=SessionListCapabilities()),
            ),
            agent_info=Implementation(name="cortexd", title="cortexd", version=__version__),
        )

    async def new_session(
        self, cwd: str, mcp_servers: list[Any] | None = None, additional_directories: list[str] | None = None, **_: Any
    ) -> NewSessionResponse:
        """Reads the configuration anew, so that a corrected one needs no restart."""
        session = await self._open(uuid.uuid4().hex, cwd, mcp_servers, additional_directories)
        self._announce(session)
        return NewSessionResponse(session_id=session.id, modes=_modes(session), config_options=_options(session))

    async def load_session(
        self,
        cwd: str,
        session_id: str,
        mcp_servers: list[Any] | None = None,
        additional_directories: list[str] | None = None,
        **_: Any,
    ) -> LoadSessionResponse:
        """A session of any earlier process, told to the editor again from its beginning."""
        if (open_now := self._sessions.get(session_id)) is not None and open_now.turn is not None:
            raise RequestError(INVALID, "this session is still answering; cancel it first")
        try:
            saved = await asyncio.to_thread(self._store.load, session_id)
        except StoreError as e:
            raise RequestError(INVALID, str(e)) from e
        if str(await asyncio.to_thread(_root, cwd)) != saved.cwd:
            raise RequestError(INVALID, f"this session belongs to {saved.cwd}, not to {cwd}")
        session = await self._open(session_id, cwd, mcp_servers, additional_directories, saved)
        for update in replay(session.history):
            await session.hands.editor.session_update(session_id, update)
        self._announce(session)
        return LoadSessionResponse(modes=_modes(session), config_options=_options(session))

    async def list_sessions(self, cwd: str | None = None, cursor: str | None = None, **_: Any) -> ListSessionsResponse:
        """Newest first, in pages of ``PAGE``; the cursor is how many came before."""
        root = None if cwd is None else str(await asyncio.to_thread(_root, cwd))
        if cursor is not None and not cursor.isdecimal():
            raise RequestError(INVALID, f"{cursor!r} is no cursor of session/list")
        found = await asyncio.to_thread(self._store.list_all, root)
        first = int(cursor or 0)
        sessions = [
            SessionInfo(session_id=s.id, cwd=s.cwd, title=s.title, updated_at=s.updated_at)
            for s in found[first : first + PAGE]
        ]
        more = str(first + PAGE) if len(found) > first + PAGE else None
        return ListSessionsResponse(sessions=sessions, next_cursor=more)

    async def _open(
        self,
        id: str,
        cwd: str,
        mcp_servers: list[Any] | None,
        directories: list[str] | None,
        saved: Saved | None = None,
    ) -> Session:
        if mcp_servers:
            raise RequestError(INVALID, "cortexd acp uses no MCP servers; take them out of this agent's settings")
        if directories:
            raise RequestError(INVALID, "cortexd acp works in one folder; it takes no additional directories")
        root = await asyncio.to_thread(_root, cwd)
        try:
            config = load_config(self._environment)
            listed = await listed_models(self._upstream, config)
            # an endpoint that the configuration has lost leaves the session to the default one
            before = config.endpoint(saved.endpoint) if saved else None
            endpoint, model = (before, saved.model) if before and saved else first_model(config, listed)
        except (ConfigError, UpstreamError) as e:
            raise RequestError(INVALID, str(e)) from e
        if self._editor is None:
            raise RequestError(INTERNAL, "a session before the connection")
        hands = Hands(self._editor, self._capabilities, id, Workspace(root), config.plan_dir, config.tool_timeout_s)
        models = [f"{name}:{m}" for name, found in listed.items() if isinstance(found, list) for m in found]
        session = Session(id, hands, endpoint, model, models, config, self._store)
        if saved:
            same = (saved.endpoint, saved.model) == (endpoint.name, model)
            session.history += saved.history if same else map(unsigned, saved.history)
            _set_mode(session, saved.mode)
        self._sessions[id] = session
        return session

    def _announce(self, session: Session) -> None:
        """The commands, right after the answer that is being returned: before it the editor knows no such session."""
        update = update_available_commands(COMMANDS)
        task = asyncio.create_task(session.hands.editor.session_update(session.id, update))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        """One prompt at a time in a session."""
        session = self._session(session_id)
        if session.turn is not None:
            raise RequestError(INVALID, "this session is still answering; cancel it first")
        try:
            asked = user_turn(prompt)
        except ValueError as e:
            raise RequestError(INVALID, str(e)) from e
        try:
            said = await run_command(session, asked.text)
        except StoreError as e:
            raise RequestError(INTERNAL, str(e)) from e
        if said is not None:
            editor = session.hands.editor
            await editor.session_update(session_id, update_agent_message_text(said))
            update = ConfigOptionUpdate(session_update="config_option_update", config_options=_options(session))
            await editor.session_update(session_id, update)
            return PromptResponse(stop_reason="end_turn")
        session.cancelled = False
        turn = asyncio.create_task(run_turn(session, self._upstream, asked, session.config.max_rounds))
        session.turn = turn
        try:
            return await turn
        except asyncio.CancelledError:
            if not session.cancelled:
                raise
            return PromptResponse(stop_reason="cancelled")
        except (ConfigError, UpstreamError, StoreError) as e:
            raise RequestError(INTERNAL, str(e)) from e
        finally:
            session.turn = None

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Ends the running prompt; without one there is nothing to do."""
        session = self._sessions.get(session_id)
        if session is not None and session.turn is not None:
            session.cancelled = True
            session.turn.cancel()

    async def set_session_mode(self, session_id: str, mode_id: str, **_: Any) -> SetSessionModeResponse:
        """Counts from the next tool call on."""
        session = self._session(session_id)
        _set_mode(session, mode_id)
        await _saved(session)
        update = ConfigOptionUpdate(session_update="config_option_update", config_options=_options(session))
        await session.hands.editor.session_update(session_id, update)
        return SetSessionModeResponse()

    async def set_config_option(
        self, config_id: str, session_id: str, value: str | bool, **_: Any
    ) -> SetSessionConfigOptionResponse:
        """``model`` (``endpoint:model``, also one that no endpoint lists) or ``mode``."""
        session = self._session(session_id)
        if config_id == "mode":
            _set_mode(session, str(value))
            await _saved(session)
            update = CurrentModeUpdate(session_update="current_mode_update", current_mode_id=session.mode)
            await session.hands.editor.session_update(session_id, update)
        elif config_id == "model":
            try:
                choose_model(session, str(value))
            except ValueError as e:
                raise RequestError(INVALID, str(e)) from e
            await _saved(session)
        else:
            raise RequestError(INVALID, f"there is no option {config_id!r}; there are: model, mode")
        return SetSessionConfigOptionResponse(config_options=_options(session))

    async def close(self) -> None:
        """Ends every running prompt and the connections to endpoints."""
        turns = [s.turn for s in self._sessions.values() if s.turn is not None]
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        await self._upstream.close()

    def _session(self, id: str) -> Session:
        if (found := self._sessions.get(id)) is None:
            raise RequestError(INVALID, f"there is no session {id!r}; session/load opens an older one")
        return found


def _root(cwd: str) -> Path:
    path = Path(cwd)
    if not path.is_absolute() or not path.is_dir():
        raise RequestError(INVALID, f"cwd {cwd!r}: must be an absolute path of a folder")
    return path.resolve()


def _set_mode(session: Session, mode: str) -> None:
    if mode not in MODES:
        raise RequestError(INVALID, f"there is no mode {mode!r}; there are: {', '.join(MODES)}")
    session.mode = mode


async def _saved(session: Session) -> None:
    try:
        await session.save()
    except StoreError as e:
        raise RequestError(INTERNAL, str(e)) from e


def _modes(session: Session) -> SessionModeState:
    modes = [SessionMode(id=id, name=name, description=text) for id, (name, text) in MODES.items()]
    return SessionModeState(current_mode_id=session.mode, available_modes=modes)


def _options(session: Session) -> list[Any]:
    values = [session.selected, *(m for m in session.models if m != session.selected)]
    models = [SessionConfigSelectOption(value=value, name=value) for value in values]
    modes = [SessionConfigSelectOption(value=m, name=name, description=text) for m, (name, text) in MODES.items()]
    return [
        SessionConfigOptionSelect(
            id="model", name="Model", category="model", type="select", current_value=session.selected, options=models
        ),
        SessionConfigOptionSelect(
            id="mode", name="Mode", category="mode", type="select", current_value=session.mode, options=modes
        ),
    ]


async def serve() -> None:
    """Speak with the editor on standard input and output until it hangs up. Nothing else may write to stdout."""
    agent = EditorAgent()
    try:
        await run_agent(cast(Agent, agent))
    finally:
        await agent.close()
