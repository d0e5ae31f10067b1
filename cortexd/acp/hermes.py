"""Pure: tool calls as text, for models whose server knows none. The form is that of the Hermes models.

``in_text`` puts tools, calls and results of a request into its text; ``Reader`` finds calls and thoughts in the answer.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from typing import Any

import orjson

from cortexd.protocol.events import Event, Finished, PartStarted, ReasoningDelta, TextDelta, ToolArgumentsDelta
from cortexd.protocol.request import ChatRequest, Message, Text, Tool

LEAD = """You can call these tools:
<tools>
{tools}
</tools>
To call one, write a JSON object with its name and arguments between two tags, and nothing after the last call:
<tool_call>
{{"name": "NAME", "arguments": {{"KEY": "VALUE"}}}}
</tool_call>
The results come between <tool_response> and </tool_response>."""
CALL, THINK = ("<tool_call>", "</tool_call>"), ("<think>", "</think>")


def in_text(request: ChatRequest) -> ChatRequest:
    """The same request without tools, calls and results of its own."""
    tools = "\n".join(
        orjson.dumps({"name": t.name, "description": t.description, "parameters": t.parameters}).decode()
        for t in request.tools
    )
    lead, *others = request.messages
    told = Message("system", (Text(f"{lead.text}\n\n{LEAD.format(tools=tools)}"),))
    turns: list[Message] = []
    for message in others:
        turn = _in_text(message)
        if turns and turns[-1].role == turn.role == "user":  # several results are one turn
            turns[-1] = replace(turn, content=(*turns[-1].content, Text("\n"), *turn.content))
        else:
            turns.append(turn)
    return replace(request, messages=(told, *(_plain(t) for t in turns)), tools=())


def _in_text(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", (Text(f"<tool_response>\n{message.text}\n</tool_response>"),))
    if not message.tool_calls:
        return message
    calls = "\n".join(
        f'{CALL[0]}\n{{"name": {json.dumps(c.name)}, "arguments": {c.arguments or "{}"}}}\n{CALL[1]}'
        for c in message.tool_calls
    )
    return Message("assistant", (Text(f"{message.text}\n{calls}".lstrip()),))


def _plain(message: Message) -> Message:
    if all(isinstance(part, Text) for part in message.content):
        return replace(message, content=(Text(message.text),))
    return message


class Reader:
    """Feed each event of an answer; text comes out as soon as it cannot be the beginning of a tag."""

    def __init__(self, tools: tuple[Tool, ...], turn: int) -> None:
        """``turn`` makes the names of the calls unique in a session."""
        self._tools = tools
        self._turn = turn
        self._calls = 0
        self._held = ""
        self._inside: tuple[str, str] | None = None

    def feed(self, event: Event) -> list[Event]:
        """The events that this one completes."""
        if isinstance(event, TextDelta):
            self._held += event.text
            return self._read()
        if isinstance(event, Finished):
            # a model may stop without the last tag
            left, self._held = self._held, ""
            return [*(self._close(left) if self._inside else _text(left)), event]
        return [event]

    def _read(self) -> list[Event]:
        events: list[Event] = []
        while True:
            if self._inside is None:
                found = min((m for tag in (CALL, THINK) if (m := self._find(tag)) is not None), default=None)
                if found is None:
                    keep = _partial(self._held)
                    cut = len(self._held) - keep
                    events += _text(self._held[:cut])
                    self._held = self._held[cut:]
                    return events
                at, tag = found
                events += _text(self._held[:at])
                self._held, self._inside = self._held[at + len(tag[0]) :], tag
            elif (at := self._held.find(self._inside[1])) >= 0:
                inner, self._held = self._held[:at], self._held[at + len(self._inside[1]) :].lstrip("\n")
                events += self._close(inner)
            else:
                return events

    def _find(self, tag: tuple[str, str]) -> tuple[int, tuple[str, str]] | None:
        at = self._held.find(tag[0])
        return None if at < 0 else (at, tag)

    def _close(self, inner: str) -> list[Event]:
        tag, self._inside = self._inside, None
        if tag is THINK:
            return [ReasoningDelta(inner.strip())] if inner.strip() else []
        name, arguments = understand(inner, self._tools)
        self._calls += 1
        id = f"hermes_{self._turn}_{self._calls}"
        return [PartStarted(self._calls, "tool_call", id, name), ToolArgumentsDelta(arguments)]


def understand(text: str, tools: tuple[Tool, ...]) -> tuple[str, str]:
    """(name, arguments as JSON) of one call, mended where it is broken. What nobody can mend has no name."""
    value = _object(text)
    if value is None:
        return "", json.dumps({"unreadable": text.strip()[:500]})
    name = next((value[k] for k in ("name", "tool", "function") if isinstance(value.get(k), str)), "")
    given = next((value[k] for k in ("arguments", "parameters", "args", "input") if k in value), None)
    if given is None:
        given = {k: v for k, v in value.items() if k not in ("name", "tool", "function")}
    if isinstance(given, str):
        given = _object(given) or {}
    if not name and isinstance(given, dict):
        name = _by_shape(set(given), tools)
    return name, json.dumps(given)


def _by_shape(keys: set[str], tools: tuple[Tool, ...]) -> str:
    fitting = []
    for tool in tools:
        schema: Any = tool.parameters
        if set(schema["required"]) <= keys <= set(schema["properties"]):
            fitting.append(tool.name)
    return fitting[0] if len(fitting) == 1 else ""


def _object(text: str) -> dict[str, Any] | None:
    """The first reading that gives an object: as it is, then with the usual mistakes of models mended."""
    text = re.sub(r"^```\w*\n|\n?```$", "", text.strip())
    without_commas = re.sub(r",\s*([}\]])", r"\1", text)
    for candidate in (text, without_commas, *(without_commas + end for end in ("}", "}}", '"}', '"}}'))):
        try:
            value = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(k, str) for k in value) else None


def _partial(text: str) -> int:
    """How many characters at the end may become a tag."""
    return max(
        (n for tag in (CALL, THINK) for n in range(1, len(tag[0])) if text.endswith(tag[0][:n])),
        default=0,
    )


def _text(text: str) -> list[Event]:
    return [TextDelta(text)] if text else []
