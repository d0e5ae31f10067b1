"""``POST /v1/messages`` and ``/v1/messages/count_tokens``: JSON to a ChatRequest, or a 400 that names the place.

Every text stays what and where it is: system turns in the middle of a conversation too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.anthropic_messages.blocks import system, turns
from cortexd.dialects.reading import need, number, unsupported, wrong
from cortexd.protocol.request import (
    NO_FEATURES,
    ChatRequest,
    Feature,
    Message,
    NamedTool,
    ResponseFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)

# Accepted and without effect here: they concern Anthropic's own accounts, caches, routing and context editing.
IGNORED = frozenset(
    {
        "betas",
        "cache_control",
        "context_management",
        "diagnostics",
        "inference_geo",
        "metadata",
        "service_tier",
        "speed",
        "user_profile_id",
        "workspace_id",
    }
)
# Refused unless empty: they ask for machinery on Anthropic's side.
REFUSED = ("container", "mcp_servers")
_READ = {
    "max_tokens", "messages", "model", "output_config", "output_format", "stop_sequences", "stream", "system",
    "temperature", "thinking", "tool_choice", "tools", "top_k", "top_p",
}  # fmt: skip
_MODES = ("enabled", "adaptive", "disabled")
_NOT_OBJECT = "an object of which 'type' is "


def parse_request(body: bytes | Mapping[str, Any], *, features: frozenset[Feature] = NO_FEATURES) -> ChatRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it."""
    return _parse(reading.load(body), features, limit_required=True)


def parse_count_tokens(body: bytes | Mapping[str, Any], *, features: frozenset[Feature] = NO_FEATURES) -> ChatRequest:
    """The same, for the body of ``count_tokens``, which sets no ``max_tokens``."""
    return _parse(reading.load(body), features, limit_required=False)


def _parse(raw: dict[str, Any], features: frozenset[Feature], *, limit_required: bool) -> ChatRequest:
    model = reading.model(raw)
    for key in REFUSED:
        if raw.get(key):
            raise unsupported(key)
    if limit_required and raw.get("max_tokens") is None:
        raise reading.missing("max_tokens")
    tools, dropped = _tools(raw)
    choice, parallel = _tool_choice(raw, tools, features)
    effort, form = _output(raw, features)
    return ChatRequest(
        model=model,
        messages=_messages(raw, features),
        tools=() if choice == "none" and "tool_choice" not in features else tools,
        sampling=Sampling(
            temperature=number(raw, "temperature", 0, 1),
            top_p=number(raw, "top_p", 0, 1),
            top_k=number(raw, "top_k", 0, 2**31, whole=True),
            max_tokens=number(raw, "max_tokens", 1, 2**31, whole=True),
            stop=_stop(raw),
        ),
        stream=bool(reading.flag(raw, "stream")),
        include_usage=True,
        tool_choice=choice if "tool_choice" in features else None,
        parallel_tool_calls=parallel,
        response_format=form,
        thinking=_thinking(raw),
        effort=effort,
        ignored=(*reading.unknown(raw, _READ | IGNORED | set(REFUSED)), *dropped),
    )


def _messages(raw: dict[str, Any], features: frozenset[Feature]) -> tuple[Message, ...]:
    messages = raw.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "a non-empty array")
    found = list(system(raw.get("system"), "system"))
    for i, message in enumerate(messages):
        found += turns(message, f"messages[{i}]", features)
    return tuple(found)


def _stop(raw: dict[str, Any]) -> tuple[str, ...]:
    stops = reading.items(raw, "stop_sequences")
    if not all(isinstance(s, str) and s for s in stops):
        raise wrong("stop_sequences", "an array of non-empty strings")
    return tuple(stops)


def _tools(raw: dict[str, Any]) -> tuple[tuple[Tool, ...], list[str]]:
    """The tools, and the names of those that only Anthropic can run."""
    found: list[Tool] = []
    names: set[str] = set()
    dropped = []
    for i, tool in enumerate(reading.items(raw, "tools")):
        path = f"tools[{i}]"
        if not isinstance(tool, dict):
            raise wrong(path, "an object")
        kind = tool.get("type")
        if kind is not None and kind != "custom":
            if not isinstance(kind, str):
                raise wrong(f"{path}.type", "a string")
            dropped.append(f"{path}:{reading.printable(kind)}")
            continue
        name = reading.required_text(tool, "name", f"{path}.")
        if name in names:
            raise wrong(f"{path}.name", "unique among the tools")
        names.add(name)
        schema = reading.mapping(tool, "input_schema", f"{path}.", "an object (JSON Schema)")
        description = reading.text(tool, "description", f"{path}.")
        strict = reading.flag(tool, "strict", f"{path}.")
        found.append(Tool(name, description, schema or {"type": "object", "properties": {}}, strict))
    return tuple(found), dropped


def _tool_choice(
    raw: dict[str, Any], tools: tuple[Tool, ...], features: frozenset[Feature]
) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether several calls at once are allowed."""
    choice = reading.mapping(raw, "tool_choice")
    if not choice:
        return None, None
    single = reading.flag(choice, "disable_parallel_tool_use", "tool_choice.")
    parallel = None if single is None else not single
    match choice.get("type"):
        case "auto":
            return "auto", parallel
        case "none":
            return "none", parallel
        case "any":
            need(features, "tool_choice", "tool_choice")
            return "required", parallel
        case "tool":
            need(features, "tool_choice", "tool_choice")
            name = reading.required_text(choice, "name", "tool_choice.")
            if all(tool.name != name for tool in tools):
                raise wrong("tool_choice.name", "the name of one of the tools that can be served")
            return NamedTool(name), parallel
    raise wrong("tool_choice", _NOT_OBJECT + "auto, any, tool or none")


def _thinking(raw: dict[str, Any]) -> Thinking | None:
    thinking = reading.mapping(raw, "thinking")
    if not thinking:
        return None
    kind = thinking.get("type")
    if kind == "between_tools":
        raise unsupported("thinking.type", "'between_tools' is not supported")
    if kind not in _MODES:
        raise wrong("thinking", _NOT_OBJECT + ", ".join(_MODES))
    budget = number(thinking, "budget_tokens", 1, 2**31, whole=True, prefix="thinking.")
    if kind == "enabled" and budget is None:
        raise reading.missing("thinking.budget_tokens")
    return Thinking(kind, budget)


def _output(raw: dict[str, Any], features: frozenset[Feature]) -> tuple[str | None, ResponseFormat | None]:
    """Effort and form; the form's older place is ``output_format``."""
    config = reading.mapping(raw, "output_config")
    effort = reading.text(config, "effort", "output_config.")
    place = "output_config.format" if config.get("format") is not None else "output_format"
    form = reading.mapping(config, "format", "output_config.") or reading.mapping(raw, "output_format")
    if not form:
        return effort, None
    need(features, "response_format", place)
    schema = form.get("schema")
    if form.get("type") != "json_schema" or not isinstance(schema, dict):
        raise wrong(place, "an object such as {'type': 'json_schema', 'schema': {...}}")
    return effort, ResponseFormat("json_schema", schema, strict=True)
