"""Why an answer ended: the one table of all dialects' words for it."""

from __future__ import annotations

from typing import NamedTuple

from cortexd.protocol.events import FinishReason


class Words(NamedTuple):
    """``status`` and ``incomplete`` are those of a response of OpenAI's Responses API."""

    chat: str
    completions: str
    status: str
    incomplete: str | None
    anthropic: str


TABLE: dict[FinishReason, Words] = {
    "stop": Words("stop", "stop", "completed", None, "end_turn"),
    "length": Words("length", "length", "incomplete", "max_output_tokens", "max_tokens"),
    "tool_calls": Words("tool_calls", "stop", "completed", None, "tool_use"),
    "content_filter": Words("content_filter", "content_filter", "incomplete", "content_filter", "refusal"),
}
# Further words that servers use. What nobody knows is an end like any other: "stop".
_MORE: dict[str, FinishReason] = {
    "function_call": "tool_calls",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "model_context_window_exceeded": "length",
}


def from_chat(word: str) -> FinishReason:
    """The reason that a chat or text completion gives."""
    return next((reason for reason, words in TABLE.items() if words.chat == word), _MORE.get(word, "stop"))


def from_anthropic(word: str) -> FinishReason:
    """The ``stop_reason`` of a message."""
    return next((reason for reason, words in TABLE.items() if words.anthropic == word), _MORE.get(word, "stop"))


def from_response(status: str, incomplete: str | None, *, calls: bool) -> FinishReason:
    """The reason behind a response's status; a completed one says by its items whether it called tools."""
    if status == "incomplete":
        return next((r for r, words in TABLE.items() if words.incomplete == incomplete), "length")
    return "tool_calls" if calls else "stop"
