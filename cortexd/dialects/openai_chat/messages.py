"""One message of a chat request, read."""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects import reading
from cortexd.dialects.reading import need, unsupported, wrong
from cortexd.protocol.request import Feature, Image, Message, Role, Text, ToolCall

_ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


def parse_message(raw: Any, path: str, features: frozenset[Feature]) -> Message:
    """Raises ApiError 400 that names the place."""
    if not isinstance(raw, dict):
        raise wrong(path, "an object")
    role = raw.get("role")
    if role not in _ROLES:
        raise wrong(f"{path}.role", f"one of {', '.join(_ROLES)}")
    calls = raw.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list)):
        raise wrong(f"{path}.tool_calls", "an array, in an assistant message")
    content = _content(raw.get("content"), f"{path}.content", features, required=role not in ("assistant", "tool"))
    if role == "assistant" and (refusal := reading.text(raw, "refusal", f"{path}.")):
        content = (*content, Text(refusal))
    call_id = reading.text(raw, "tool_call_id", f"{path}.")
    if role == "tool" and call_id is None:
        raise wrong(f"{path}.tool_call_id", "a string: the id of the call that this answers")
    reasoning = reading.text(raw, "reasoning_content", f"{path}.")
    return Message(
        role=role,
        content=content,
        tool_calls=tuple(_call(c, f"{path}.tool_calls[{i}]") for i, c in enumerate(calls or [])),
        tool_call_id=call_id,
        name=reading.text(raw, "name", f"{path}."),
        # two names for it are in use
        reasoning=reading.text(raw, "reasoning", f"{path}.") if reasoning is None else reasoning,
        reasoning_signature=reading.text(raw, "reasoning_signature", f"{path}."),
    )


def _content(raw: Any, path: str, features: frozenset[Feature], *, required: bool) -> tuple[Text | Image, ...]:
    if isinstance(raw, str):
        return (Text(raw),)
    if raw is None and not required:
        return ()
    if not isinstance(raw, list):
        raise wrong(path, "a string or an array of parts")
    return tuple(_part(part, f"{path}[{i}]", features) for i, part in enumerate(raw))


def _part(part: Any, path: str, features: frozenset[Feature]) -> Text | Image:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("text", "refusal") and isinstance(part.get(kind), str):
        return Text(part[kind])
    if kind == "image_url":
        need(features, "images", path)
        image = part.get("image_url")
        if not isinstance(image, dict):
            raise wrong(f"{path}.image_url", "an object with 'url'")
        url = reading.required_text(image, "url", f"{path}.image_url.")
        return Image(url, reading.text(image, "detail", f"{path}.image_url."))
    if kind in ("input_audio", "file"):
        raise unsupported(path, f"has the type '{kind}', which is not supported")
    raise wrong(path, "a part such as {'type': 'text', 'text': '...'}")


def _call(raw: Any, path: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise wrong(path, "a call with 'id' and 'function': {'name', 'arguments'}")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, dict):  # some clients send the object itself
        arguments = orjson.dumps(arguments).decode()
    if not isinstance(arguments, str):
        raise wrong(f"{path}.function.arguments", "a string of JSON")
    return ToolCall(str(raw.get("id") or ""), function["name"], arguments)
