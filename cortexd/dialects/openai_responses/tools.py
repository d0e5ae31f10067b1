"""Tools of a responses request: flat, in chat's nested form, in namespaces; hosted ones, which nobody here can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.reading import need, required_text, unsupported, wrong
from cortexd.protocol.request import Feature, NamedTool, Tool, ToolChoice


def qualified(namespace: str | None, name: str) -> str:
    """The name by which the model knows a tool."""
    return name if not namespace else prefix(namespace) + name


def prefix(namespace: str) -> str:
    """What a namespace puts before its tools' names."""
    return namespace if namespace.endswith("__") else f"{namespace}__"


def local_names(tools: tuple[Tool, ...]) -> dict[str, tuple[str, str]]:
    """Qualified name -> namespace and name there, for the tools that have one."""
    return {
        tool.name: (tool.namespace, tool.name.removeprefix(prefix(tool.namespace))) for tool in tools if tool.namespace
    }


def parse_tools(raw: Mapping[str, Any]) -> tuple[tuple[Tool, ...], list[str]]:
    """The functions, and what was left out. Raises ApiError 400."""
    found: list[Tool] = []
    dropped: list[str] = []
    for i, tool in enumerate(reading.items(raw, "tools")):
        path = f"tools[{i}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "function":
            found.append(_function(tool, path, None))
        elif kind == "namespace":
            namespace = required_text(tool, "name", f"{path}.")
            if tool.get("description"):
                dropped.append(f"{path}.description")
            for j, inner in enumerate(reading.items(tool, "tools", f"{path}.")):
                here = f"{path}.tools[{j}]"
                if not isinstance(inner, dict):
                    raise wrong(here, "an object")
                if inner.get("type", "function") == "function":
                    found.append(_function(inner, here, namespace))
                else:
                    dropped.append(f"{here}:{reading.printable(str(inner.get('type')))}")
        elif isinstance(kind, str):
            dropped.append(f"{path}:{reading.printable(kind)}")
        else:
            raise wrong(path, "an object with 'type'")
    names = set()
    for tool in found:
        if tool.name in names:
            raise wrong("tools", f"an array in which each name occurs once ('{reading.printable(tool.name)}' does not)")
        names.add(tool.name)
    return tuple(found), dropped


def _function(tool: dict[str, Any], path: str, namespace: str | None) -> Tool:
    told = tool
    if "function" in tool:
        told, path = tool["function"], f"{path}.function"
        if not isinstance(told, dict):
            raise wrong(path, "an object")
    name = required_text(told, "name", f"{path}.")
    parameters = reading.mapping(told, "parameters", f"{path}.", "an object (JSON Schema)")
    return Tool(
        qualified(namespace, name),
        reading.text(told, "description", f"{path}."),
        parameters or {"type": "object", "properties": {}},
        reading.flag(told, "strict", f"{path}."),
        namespace,
    )


def parse_tool_choice(
    raw: Mapping[str, Any], tools: tuple[Tool, ...], features: frozenset[Feature]
) -> ToolChoice | None:
    """Raises ApiError 400, also for a tool that is not there."""
    choice = raw.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return choice
    if choice == "required":
        need(features, "tool_choice", "tool_choice")
        return "required"
    if not isinstance(choice, dict):
        raise wrong("tool_choice", "auto, none, required or an object")
    if choice.get("type") != "function":
        raise unsupported("tool_choice", "can be auto, none, required or a function here")
    need(features, "tool_choice", "tool_choice")
    told = choice.get("function", choice)
    if not isinstance(told, dict):
        raise wrong("tool_choice.function", "an object")
    name = qualified(reading.text(told, "namespace", "tool_choice."), required_text(told, "name", "tool_choice."))
    if all(tool.name != name for tool in tools):
        raise wrong("tool_choice.name", "the name of one of the functions in 'tools'")
    return NamedTool(name)


def encode_tools(tools: tuple[Tool, ...]) -> list[dict[str, Any]]:
    """Flat functions, and namespaces where they stood in one."""
    out: list[dict[str, Any]] = []
    groups: dict[str, list[dict[str, Any]]] = {}
    local = local_names(tools)
    for tool in tools:
        function: dict[str, Any] = {
            "type": "function",
            "name": local[tool.name][1] if tool.name in local else tool.name,
            "parameters": tool.parameters,
            "strict": bool(tool.strict),
        }
        if tool.description is not None:
            function["description"] = tool.description
        if tool.namespace is None:
            out.append(function)
        elif tool.namespace in groups:
            groups[tool.namespace].append(function)
        else:
            groups[tool.namespace] = [function]
            out.append(
                {"type": "namespace", "name": tool.namespace, "description": "", "tools": groups[tool.namespace]}
            )
    return out
