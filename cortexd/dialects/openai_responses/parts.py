"""The output item that a part becomes, and the events of its life."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from cortexd.dialects.logprobs import encode_logprobs
from cortexd.protocol.events import (
    Event,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolArgumentsDelta,
)

Payload = dict[str, Any]


class Part(ABC):
    """One item. ``item`` is its JSON so far; after ``end`` it is whole."""

    def __init__(self, item: dict[str, Any], index: int) -> None:
        self.item = item
        self._said: list[str] = []
        self._index = index

    def begin(self) -> list[Payload]:
        """The events that open it."""
        return [{"type": "response.output_item.added", "output_index": self._index, "item": dict(self.item)}]

    @abstractmethod
    def add(self, event: Event) -> list[Payload]:
        """The events of a delta."""

    def end(self, *, encrypted: bool) -> list[Payload]:
        """The events that close it; ``encrypted``: the client wants the signature of reasoning."""
        self.item |= {"status": "completed"}
        return [{"type": "response.output_item.done", "output_index": self._index, "item": self.item}]

    def _at(self, kind: str, **more: Any) -> Payload:
        return {"type": f"response.{kind}", "item_id": self.item["id"], "output_index": self._index, **more}


class _Message(Part):
    """Text or a refusal; each is a message of one content part."""

    def __init__(self, identity: str, index: int, *, refusal: bool) -> None:
        super().__init__(
            {"id": f"msg_{identity}", "type": "message", "status": "in_progress", "role": "assistant", "content": []},
            index,
        )
        self._refusal = refusal
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> list[Payload]:
        return [*super().begin(), self._at("content_part.added", content_index=0, part=self._content())]

    def add(self, event: Event) -> list[Payload]:
        if isinstance(event, RefusalDelta):
            self._said.append(event.text)
            return [self._at("refusal.delta", content_index=0, delta=event.text)]
        if not isinstance(event, TextDelta):
            raise ValueError(f"{event!r} in a message")
        self._said.append(event.text)
        self._logprobs += event.logprobs
        told = _logprobs(event.logprobs)
        return [self._at("output_text.delta", content_index=0, delta=event.text, logprobs=told)]

    def end(self, *, encrypted: bool) -> list[Payload]:
        content = self._content()
        self.item["content"] = [content]
        if self._refusal:
            done = self._at("refusal.done", content_index=0, refusal=content["refusal"])
        else:
            done = self._at("output_text.done", content_index=0, text=content["text"], logprobs=content["logprobs"])
        whole = self._at("content_part.done", content_index=0, part=content)
        return [done, whole, *super().end(encrypted=encrypted)]

    def _content(self) -> dict[str, Any]:
        text = "".join(self._said)
        if self._refusal:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "annotations": [], "logprobs": _logprobs(self._logprobs), "text": text}


class _Reasoning(Part):
    """Shown as the summary, which is what clients display."""

    def __init__(self, identity: str, index: int) -> None:
        super().__init__({"id": f"rs_{identity}", "type": "reasoning", "summary": []}, index)
        self._signature: str | None = None

    def add(self, event: Event) -> list[Payload]:
        if isinstance(event, ReasoningSignature):
            self._signature = event.signature
            return []
        if not isinstance(event, ReasoningDelta):
            raise ValueError(f"{event!r} in reasoning")
        opened = []
        if not self._said:
            part = {"type": "summary_text", "text": ""}
            opened.append(self._at("reasoning_summary_part.added", summary_index=0, part=part))
        self._said.append(event.text)
        return [*opened, self._at("reasoning_summary_text.delta", summary_index=0, delta=event.text)]

    def end(self, *, encrypted: bool) -> list[Payload]:
        closed = []
        if self._said:
            text = "".join(self._said)
            part = {"type": "summary_text", "text": text}
            self.item["summary"] = [part]
            closed.append(self._at("reasoning_summary_text.done", summary_index=0, text=text))
            closed.append(self._at("reasoning_summary_part.done", summary_index=0, part=part))
        if encrypted:
            self.item["encrypted_content"] = self._signature
        return [*closed, *super().end(encrypted=encrypted)]


class _Call(Part):
    def __init__(self, part: PartStarted, identity: str, index: int, names: dict[str, tuple[str, str]]) -> None:
        namespace, name = names.get(part.name or "", (None, part.name))
        item = {
            "id": f"fc_{identity}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": part.id,
            "name": name,
            "arguments": "",
        }
        super().__init__(item if namespace is None else item | {"namespace": namespace}, index)

    def add(self, event: Event) -> list[Payload]:
        if not isinstance(event, ToolArgumentsDelta):
            raise ValueError(f"{event!r} in a call")
        self._said.append(event.json)
        return [self._at("function_call_arguments.delta", delta=event.json)]

    def end(self, *, encrypted: bool) -> list[Payload]:
        self.item["arguments"] = "".join(self._said)
        done = self._at("function_call_arguments.done", name=self.item["name"], arguments=self.item["arguments"])
        return [done, *super().end(encrypted=encrypted)]


def part_for(part: PartStarted, identity: str, index: int, names: dict[str, tuple[str, str]]) -> Part:
    """The item for a part. ``names``: qualified tool name -> namespace and name there."""
    match part.kind:
        case "reasoning":
            return _Reasoning(identity, index)
        case "tool_call":
            return _Call(part, identity, index, names)
        case "text" | "refusal":
            return _Message(identity, index, refusal=part.kind == "refusal")


def _logprobs(tokens: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    # this wire wants the bytes always
    return encode_logprobs(replace(_bytes(t), top=tuple(_bytes(each) for each in t.top)) for t in tokens)


def _bytes(token: TokenLogprob) -> TokenLogprob:
    return token if token.data is not None else replace(token, data=token.token.encode())
