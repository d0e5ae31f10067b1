"""Pure: the events of an answer to the turn that goes into the history, and an editor's blocks to a model's parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cortexd.protocol.events import (
    Event,
    Finished,
    FinishReason,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import Image, Message, Text, ToolCall


class Answer:
    """Feed every event; ``message`` is the turn so far, also after a stream that was cut."""

    def __init__(self, turn: int) -> None:
        """``turn`` is its place in the history: it makes names for calls that the server leaves nameless."""
        self._turn = turn
        self.reason: FinishReason | None = None
        self.usage = Usage(0, 0)
        self.refused = False
        self._text = ""
        self._reasoning = ""
        self._signature: str | None = None
        self._calls: list[ToolCall] = []

    def add(self, event: Event) -> None:
        """One event, in order."""
        match event:
            case TextDelta():
                self._text += event.text
            case RefusalDelta():
                self._text += event.text
                self.refused = True
            case ReasoningDelta():
                self._reasoning += event.text
            case ReasoningSignature():
                self._signature = event.signature
            case PartStarted(kind="tool_call"):
                # a server that names no call still wants its results back under one name each
                self._calls.append(ToolCall(event.id or f"call_{self._turn}_{len(self._calls)}", event.name or "", ""))
            case ToolArgumentsDelta() if self._calls:
                last = self._calls[-1]
                self._calls[-1] = ToolCall(last.id, last.name, last.arguments + event.json)
            case Finished():
                self.reason = event.reason
                self.usage = event.usage

    @property
    def message(self) -> Message:
        """The assistant's turn. Calls count only when the answer ended: a cut one may lack half of its arguments."""
        return Message(
            "assistant",
            (Text(self._text),) if self._text else (),
            tuple(self._calls) if self.reason is not None else (),
            reasoning=self._reasoning or None,
            reasoning_signature=self._signature,
        )


def user_turn(blocks: Sequence[Any]) -> Message:
    """What the user sent: text, images, files that the editor put in, links to files. Raises ValueError for sound."""
    parts: list[Text | Image] = []
    for block in blocks:
        match block.type:
            case "text":
                parts.append(Text(block.text))
            case "image":
                parts.append(Image(f"data:{block.mime_type};base64,{block.data}"))
            case "resource_link":
                parts.append(Text(f"[{block.name}]({block.uri})"))
            case "resource" if hasattr(block.resource, "text"):
                parts.append(Text(f"{block.resource.uri}:\n```\n{block.resource.text}\n```"))
            case other:
                raise ValueError(f"a prompt cannot hold {other} of this kind")
    if not parts:
        raise ValueError("the prompt is empty")
    return Message("user", _joined(parts))


def _joined(parts: list[Text | Image]) -> tuple[Text | Image, ...]:
    """Neighbouring texts as one: servers of open models take a plain string more often than a list."""
    found: list[Text | Image] = []
    for part in parts:
        if found and isinstance(part, Text) and isinstance(last := found[-1], Text):
            found[-1] = Text(f"{last.text}\n{part.text}")
        else:
            found.append(part)
    return tuple(found)
