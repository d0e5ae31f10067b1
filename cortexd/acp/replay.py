"""Pure: a history as the updates that an editor shows when it opens an old session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from acp.helpers import (
    image_block,
    start_tool_call,
    text_block,
    tool_content,
    update_agent_message_text,
    update_agent_thought_text,
    update_tool_call,
    update_user_message,
)

from cortexd.acp.tools import KINDS
from cortexd.acp.workspace import bounded
from cortexd.protocol.request import Image, Message


def replay(history: Iterable[Message]) -> Iterator[Any]:
    """In the order in which it happened."""
    shown: dict[str, str] = {}
    for n, message in enumerate(history):
        match message.role:
            case "user":
                for part in message.content:
                    yield update_user_message(_image(part) if isinstance(part, Image) else text_block(part.text))
            case "assistant":
                if message.reasoning:
                    yield update_agent_thought_text(message.reasoning)
                if message.text:
                    yield update_agent_message_text(message.text)
                for call in message.tool_calls:
                    shown[call.id] = f"{n}-{call.id}"
                    kind = KINDS.get(call.name, "other")
                    title = f"{call.name} {call.arguments}"[:200]
                    yield start_tool_call(shown[call.id], title, kind=kind, status="pending")
            case "tool" if message.tool_call_id in shown:
                told = [tool_content(text_block(bounded(message.text)))]
                status: Any = "failed" if message.tool_failed else "completed"
                yield update_tool_call(shown[message.tool_call_id], status=status, content=told)


def _image(image: Image) -> Any:
    media, _, data = image.url.removeprefix("data:").partition(";base64,")
    return image_block(data, media)
