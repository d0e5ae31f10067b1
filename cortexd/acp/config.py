"""``acp.toml`` and the environment: which endpoints there are, and how far an agent may go."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

WireApi = Literal["openai-chat", "openai-responses", "anthropic-messages"]
ToolCalls = Literal["native", "hermes"]
LOCAL_GATEWAY = "http://127.0.0.1:31313/v1"
MAX_ROUNDS, TOOL_TIMEOUT_S, PLAN_DIR = 25, 120.0, "plans"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ConfigError(Exception):
    """A mistake of the user's: the message names the place and what helps. Never holds a secret."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. ``base_url`` ends where ``/chat/completions``, ``/responses`` or ``/messages`` begins.

    ``default_model`` None: the first one that the server lists. ``max_tokens`` bounds one answer, ``context_window``
    is what a session must fit; both in tokens.
    ``tool_calls`` hermes: they are text, for servers without.
    """

    name: str
    base_url: str
    wire_api: WireApi = "openai-chat"
    default_model: str | None = None
    api_key_env: str | None = None
    api_key_file: Path | None = None
    max_tokens: int | None = None
    context_window: int | None = None
    tool_calls: ToolCalls = "native"


@dataclass(frozen=True, slots=True)
class Config:
    """``max_rounds`` is how often one prompt may ask the model; ``tool_timeout_s`` bounds one command.

    ``plan_dir`` is where mode ``plan`` may write, below the workspace.
    """

    endpoints: tuple[Endpoint, ...]
    default_endpoint: str
    max_rounds: int = MAX_ROUNDS
    tool_timeout_s: float = TOOL_TIMEOUT_S
    plan_dir: str = PLAN_DIR

    def endpoint(self, name: str) -> Endpoint | None:
        """The endpoint of that name."""
        return next((e for e in self.endpoints if e.name == name), None)


def config_path(environment: Mapping[str, str]) -> Path:
    """``CORTEXD_ACP_CONFIG``, else ``acp.toml`` in the user's folder of configurations."""
    if given := environment.get("CORTEXD_ACP_CONFIG"):
        return Path(given)
    folder = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".config")
    return Path(folder) / "cortexd" / "acp.toml"


def load_config(environment: Mapping[str, str]) -> Config:
    """From ``CORTEXD_ACP_BASE_URL`` and its companions, else from the file, else the gateway of this machine.

    Raises ConfigError.
    """
    if environment.get("CORTEXD_ACP_BASE_URL"):
        return _from_environment(environment)
    path = config_path(environment)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if environment.get("CORTEXD_ACP_CONFIG"):
            raise ConfigError(f"{path}: there is no such file; CORTEXD_ACP_CONFIG names it") from None
        return Config((Endpoint("local", LOCAL_GATEWAY),), "local")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from e
    return parse_config(text, str(path))


def parse_config(text: str, place: str) -> Config:
    """Raises ConfigError with ``place:line``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        found = re.search(r"\(at line (\d+)", str(e))
        raise ConfigError(f"{place}:{found[1] if found else text.count(chr(10)) + 1}: {e}") from e
    reader = _Reader(text, place)
    tables = raw.pop("endpoints", None)
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise reader.error("endpoints", None, "at least one [[endpoints]] is needed")
    endpoints = tuple(_endpoint(table, i, reader) for i, table in enumerate(tables))
    names = [e.name for e in endpoints]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise reader.error("name", i, f"two endpoints are called {name!r}")
    default = reader.take(raw, "default_endpoint", str, None) or names[0]
    if default not in names:
        raise reader.error("default_endpoint", None, f"{default!r} is no endpoint; there are: {', '.join(names)}")
    rounds = reader.take(raw, "max_rounds", int, None)
    timeout = reader.take(raw, "tool_timeout_s", (int, float), None)
    plans = reader.take(raw, "plan_dir", str, None) or PLAN_DIR
    if Path(plans).is_absolute() or ".." in Path(plans).parts or not Path(plans).parts:
        raise reader.error("plan_dir", None, "it must be a folder below the workspace")
    reader.nothing_left(raw, None)
    return Config(
        endpoints,
        default,
        MAX_ROUNDS if rounds is None else rounds,
        TOOL_TIMEOUT_S if timeout is None else timeout,
        plans,
    )


def _endpoint(table: dict[str, Any], i: int, reader: _Reader) -> Endpoint:
    name = reader.take(table, "name", str, i)
    url = reader.take(table, "base_url", str, i)
    if not name or not NAME.fullmatch(name):
        raise reader.error("name", i, "an endpoint needs a name of letters, digits, '.', '_' and '-'")
    if not url:
        raise reader.error("base_url", i, f"endpoint {name!r} needs a base_url, for example {LOCAL_GATEWAY!r}")
    wire = reader.take(table, "wire_api", str, i) or "openai-chat"
    if wire not in get_args(WireApi):
        raise reader.error("wire_api", i, f"{wire!r} is none of {', '.join(get_args(WireApi))}")
    calls = reader.take(table, "tool_calls", str, i) or "native"
    if calls not in get_args(ToolCalls):
        raise reader.error("tool_calls", i, f"{calls!r} is none of {', '.join(get_args(ToolCalls))}")
    key_env, key_file = reader.take(table, "api_key_env", str, i), reader.take(table, "api_key_file", str, i)
    if key_env and key_file:
        raise reader.error("api_key_file", i, "give api_key_env or api_key_file, not both")
    if "api_key" in table:
        raise reader.error("api_key", i, "keys do not belong into this file: use api_key_env or api_key_file")
    try:
        base = _base(url)
    except ValueError as e:
        raise reader.error("base_url", i, str(e)) from e
    found = Endpoint(
        name,
        base,
        cast(WireApi, wire),
        reader.take(table, "default_model", str, i),
        key_env,
        Path(key_file).expanduser() if key_file else None,
        reader.take(table, "max_tokens", int, i),
        reader.take(table, "context_window", int, i),
        cast(ToolCalls, calls),
    )
    reader.nothing_left(table, i)
    return found


def _from_environment(environment: Mapping[str, str]) -> Config:
    def number(name: str) -> int | None:
        given = environment.get(name)
        if not given:
            return None
        if not given.isdecimal() or int(given) < 1:
            raise ConfigError(f"{name}: must be a whole number above 0")
        return int(given)

    wire = environment.get("CORTEXD_ACP_WIRE_API") or "openai-chat"
    if wire not in get_args(WireApi):
        raise ConfigError(f"CORTEXD_ACP_WIRE_API: {wire!r} is none of {', '.join(get_args(WireApi))}")
    try:
        base = _base(environment["CORTEXD_ACP_BASE_URL"])
    except ValueError as e:
        raise ConfigError(f"CORTEXD_ACP_BASE_URL: {e}") from e
    key = "CORTEXD_ACP_API_KEY"
    endpoint = Endpoint(
        "env",
        base,
        cast(WireApi, wire),
        environment.get("CORTEXD_ACP_MODEL") or None,
        key if environment.get(key) else None,
        None,
        number("CORTEXD_ACP_MAX_TOKENS"),
        number("CORTEXD_ACP_CONTEXT_WINDOW"),
    )
    return Config((endpoint,), "env")


def _base(url: str) -> str:
    """``/v1`` is added where the address has no path. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be http://HOST… or https://HOST… without a query")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password; use api_key_env or api_key_file")
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


@dataclass(frozen=True, slots=True)
class _Reader:
    text: str
    place: str

    def take(self, table: dict[str, Any], key: str, kind: Any, index: int | None) -> Any:
        """The value, removed from its table; None where absent. Numbers must be above 0, texts not empty."""
        if key not in table:
            return None
        value = table.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, index, "must be text" if kind is str else "must be a number above 0")
        if (isinstance(value, str) and not value.strip()) or (not isinstance(value, str) and not value > 0):
            raise self.error(key, index, "must not be empty" if kind is str else "must be a number above 0")
        return value

    def nothing_left(self, table: dict[str, Any], index: int | None) -> None:
        for key in table:
            raise self.error(key, index, "is not known here")

    def error(self, key: str, index: int | None, why: str) -> ConfigError:
        """Names the line of ``key`` in the ``index``-th endpoint, or of that endpoint where the key is missing."""
        at, seen, line = 1, -1, None
        for number, text in enumerate(self.text.splitlines(), 1):
            if re.match(r"\s*\[\[\s*endpoints\s*\]\]", text):
                seen += 1
                at = number if seen == index else at
            inside = seen == index if index is not None else seen < 0
            if inside and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.\]]""", text):
                line = line or number
        return ConfigError(f"{self.place}:{line or at}: {key}: {why}")
