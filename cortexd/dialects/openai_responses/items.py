"""Input items to messages, in the order they have."""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects import reading
from cortexd.dialects.openai_responses.tools import qualified
from cortexd.dialects.reading import need, required_text, unsupported, wrong
from cortexd.protocol.request import Feature, Image, Message, Role, Text, ToolCall

# What hosted tools left behind in a conversation led elsewhere: no model here can read it. Reported, not refused.
HOSTED = frozenset(
    {
        "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "computer_call",
        "computer_call_output", "file_search_call", "image_generation_call", "local_shell_call",
        "local_shell_call_output", "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools",
        "shell_call", "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
    }
)  # fmt: skip
_ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant")
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


class Items:
    """Feed items; ``messages`` and ``ignored`` hold what they became. An assistant's items in a row form one turn."""

    def __init__(self, features: frozenset[Feature]) -> None:
        self.messages: list[Message] = []
        self.ignored: list[str] = []
        self._features = features
        self._reasoning: tuple[str | None, str | None] | None = None
        self._content: tuple[Text | Image, ...] | None = None
        self._calls: list[ToolCall] = []

    def add(self, item: Any, path: str) -> None:
        """Raises ApiError 400."""
        if not isinstance(item, dict):
            raise wrong(path, "an object")
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        match kind:
            case "message":
                self._message(item, path)
            case "function_call":
                name = qualified(reading.text(item, "namespace", f"{path}."), required_text(item, "name", f"{path}."))
                arguments = reading.text(item, "arguments", f"{path}.") or "{}"
                self._calls.append(ToolCall(required_text(item, "call_id", f"{path}."), name, arguments))
            case "custom_tool_call":
                told = orjson.dumps({"input": reading.text(item, "input", f"{path}.") or ""}).decode()
                name = required_text(item, "name", f"{path}.")
                self._calls.append(ToolCall(required_text(item, "call_id", f"{path}."), name, told))
            case "function_call_output" | "custom_tool_call_output":
                self.flush()
                output = self._parts(item.get("output"), f"{path}.output")
                call = required_text(item, "call_id", f"{path}.")
                self.messages.append(Message("tool", output, tool_call_id=call))
            case "reasoning":
                self._reason(item, path)
            case str() if kind in HOSTED:
                self.ignored.append(f"{path}:{kind}")
            case str():
                raise unsupported(path, f"has the type '{reading.printable(kind)}', which is not supported")
            case _:
                raise wrong(path, "an object with 'type', or with 'role' and 'content'")

    def flush(self) -> None:
        """End the assistant's turn, if one is open."""
        if self._reasoning is None and self._content is None and not self._calls:
            return
        text, signature = self._reasoning or (None, None)
        self.messages.append(
            Message(
                "assistant",
                self._content or (),
                tuple(self._calls),
                reasoning=text,
                reasoning_signature=signature,
            )
        )
        self._reasoning, self._content, self._calls = None, None, []

    def _message(self, item: dict[str, Any], path: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise wrong(f"{path}.role", f"one of {', '.join(_ROLES)}")
        raw = item.get("content")
        if raw is None and role != "assistant":
            raise wrong(f"{path}.content", "a string or an array of parts")
        content = self._parts(raw, f"{path}.content")
        if role != "assistant":
            self.flush()
            self.messages.append(Message(role, content))
            return
        if self._content is not None or self._calls:
            self.flush()
        self._content = content

    def _reason(self, item: dict[str, Any], path: str) -> None:
        texts = []
        for key, kind in (("content", "reasoning_text"), ("summary", "summary_text")):
            for i, part in enumerate(reading.items(item, key, f"{path}.")):
                if not isinstance(part, dict) or not isinstance(part.get("text"), str):
                    raise wrong(f"{path}.{key}[{i}]", f"a part such as {{'type': '{kind}', 'text': '...'}}")
                texts.append(part["text"])
            if texts:
                break  # the summary is the same thing, said shorter
        signature = reading.text(item, "encrypted_content", f"{path}.") or None
        if self._reasoning is not None or self._content is not None or self._calls:
            self.flush()
        if texts or signature is not None:
            self._reasoning = ("\n\n".join(texts), signature)

    def _parts(self, raw: Any, path: str) -> tuple[Text | Image, ...]:
        if raw is None:
            return ()
        if isinstance(raw, str):
            return (Text(raw),)
        if not isinstance(raw, list):
            raise wrong(path, "a string or an array of parts")
        return tuple(self._part(part, f"{path}[{i}]") for i, part in enumerate(raw))

    def _part(self, part: Any, path: str) -> Text | Image:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _TEXTS:
            told = part.get(_TEXTS[kind])
            if not isinstance(told, str):
                raise wrong(f"{path}.{_TEXTS[kind]}", "a string")
            return Text(told)
        if kind in ("input_image", "image_url"):
            need(self._features, "images", path)
            url = part.get("image_url")
            if isinstance(url, dict):  # chat's form
                url = url.get("url")
            if not isinstance(url, str) or not url:
                raise wrong(
                    f"{path}.image_url", "an address, or data:...;base64,... (uploaded files are not supported)"
                )
            return Image(url, reading.text(part, "detail", f"{path}."))
        if isinstance(kind, str):
            raise unsupported(path, f"has the type '{reading.printable(kind)}', which is not supported")
        raise wrong(path, "an object with 'type'")
