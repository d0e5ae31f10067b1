"""Anthropic's turns and their content blocks to messages, in the order they have."""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects import reading
from cortexd.dialects.anthropic_messages.client import REDACTED
from cortexd.dialects.reading import need, required_text, unsupported, wrong
from cortexd.protocol.request import Feature, Image, Message, Role, Text, ToolCall

Content = tuple[Text | Image, ...]


def system(raw: Any, path: str) -> list[Message]:
    """The system prompt: a string or text blocks, as one message. Raises ApiError 400."""
    if raw is None or raw == [] or raw == "":
        return []
    blocks = [{"type": "text", "text": raw}] if isinstance(raw, str) else raw
    if not isinstance(blocks, list):
        raise wrong(path, "a string or an array of text blocks")
    parts = []
    for i, block in enumerate(blocks):
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise wrong(f"{path}[{i}]", "a block such as {'type': 'text', 'text': '...'}")
        parts.append(Text(block["text"]))
    return [Message("system", tuple(parts))]


def turns(raw: Any, path: str, features: frozenset[Feature]) -> list[Message]:
    """The messages that one turn stands for. Raises ApiError 400."""
    if not isinstance(raw, dict):
        raise wrong(path, "an object")
    role, content, here = raw.get("role"), raw.get("content"), f"{path}.content"
    if role not in ("user", "assistant", "system"):
        raise wrong(f"{path}.role", "one of user, assistant, system")
    if isinstance(content, str):
        return [Message(role, (Text(content),))]
    if not isinstance(content, list):
        raise wrong(here, "a string or an array of blocks")
    if role == "system":
        return system(content, here)
    turn = _Turn(role, features)
    for i, block in enumerate(content):
        turn.add(block, f"{here}[{i}]")
    return turn.done()


class _Turn:
    """Gathers blocks into messages; what does not fit the order within a message begins another one."""

    def __init__(self, role: Role, features: frozenset[Feature]) -> None:
        self._role = role
        self._features = features
        self._done: list[Message] = []
        self._reasoning: tuple[str, str | None] | None = None
        self._content: list[Text | Image] = []
        self._calls: list[ToolCall] = []

    def add(self, block: Any, path: str) -> None:
        kind = block.get("type") if isinstance(block, dict) else None
        match self._role, kind:
            case _, "text":
                if self._calls:
                    self._flush()
                self._content.append(_text(block, path))
            case "user", "image":
                self._content.append(_image(block, path, self._features))
            case "user", "tool_result":
                self._flush()
                self._done.append(_tool_result(block, path, self._features))
            case "assistant", "tool_use":
                arguments = reading.mapping(block, "input", f"{path}.")
                identity, name = required_text(block, "id", f"{path}."), required_text(block, "name", f"{path}.")
                self._calls.append(ToolCall(identity, name, orjson.dumps(arguments).decode()))
            case "assistant", "thinking":
                text = reading.text(block, "thinking", f"{path}.") or ""
                self._reason(text, reading.text(block, "signature", f"{path}.") or None)
            case "assistant", "redacted_thinking":
                self._reason("", REDACTED + required_text(block, "data", f"{path}."))
            case _, str():
                name = reading.printable(kind)
                raise unsupported(path, f"has the type '{name}', which is not supported in a turn of this role")
            case _:
                raise wrong(path, "an object with 'type'")

    def _reason(self, text: str, signature: str | None) -> None:
        if self._reasoning is not None or self._content or self._calls:
            self._flush()
        self._reasoning = (text, signature)

    def _flush(self) -> None:
        if self._reasoning is None and not self._content and not self._calls:
            return
        text, signature = self._reasoning or (None, None)
        content, calls = tuple(self._content), tuple(self._calls)
        self._done.append(Message(self._role, content, calls, reasoning=text, reasoning_signature=signature))
        self._reasoning, self._content, self._calls = None, [], []

    def done(self) -> list[Message]:
        self._flush()
        return self._done or [Message(self._role)]


def _text(block: dict[str, Any], path: str) -> Text:
    if not isinstance(block.get("text"), str):
        raise wrong(f"{path}.text", "a string")
    return Text(block["text"])


def _image(block: dict[str, Any], path: str, features: frozenset[Feature]) -> Image:
    need(features, "images", path)
    source = reading.mapping(block, "source", f"{path}.")
    match source.get("type"):
        case "base64":
            media = required_text(source, "media_type", f"{path}.source.")
            return Image(f"data:{media};base64,{required_text(source, 'data', f'{path}.source.')}")
        case "url":
            return Image(required_text(source, "url", f"{path}.source."))
    raise wrong(f"{path}.source", "an object of which 'type' is base64 or url")


def _tool_result(block: dict[str, Any], path: str, features: frozenset[Feature]) -> Message:
    call = required_text(block, "tool_use_id", f"{path}.")
    content, here = block.get("content"), f"{path}.content"
    parts: Content
    if content is None:
        parts = ()
    elif isinstance(content, str):
        parts = (Text(content),)
    elif isinstance(content, list):
        parts = tuple(_result_part(part, f"{here}[{i}]", features) for i, part in enumerate(content))
    else:
        raise wrong(here, "a string or an array of blocks")
    failed = bool(reading.flag(block, "is_error", f"{path}."))
    return Message("tool", parts, tool_call_id=call, tool_failed=failed)


def _result_part(part: Any, path: str, features: frozenset[Feature]) -> Text | Image:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return _text(part, path)
    if kind == "image":
        return _image(part, path, features)
    if isinstance(kind, str):
        raise unsupported(path, f"has the type '{reading.printable(kind)}', which is not supported in a tool's result")
    raise wrong(path, "an object with 'type'")
