"""``POST /v1/responses``: JSON to a ResponsesRequest, or a 400 that names the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.openai_responses.items import Items
from cortexd.dialects.openai_responses.tools import encode_tools, parse_tool_choice, parse_tools
from cortexd.dialects.reading import need, number, unsupported, wrong
from cortexd.dialects.sampling import READ, parse_format, parse_sampling
from cortexd.protocol.request import NO_FEATURES, ChatRequest, Feature, Message, Text

# Accepted and without effect here: they concern OpenAI's own accounts, caches and routing, or only permit something.
IGNORED = frozenset(
    {
        "access_programs",
        "client_metadata",
        "context_management",
        "max_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "truncation",
        "user",
    }
)
# Refused unless they ask for nothing: member -> the values that do.
REFUSED: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "moderation": (),
    "prompt": (),
}
_READ = READ | {
    "include", "input", "instructions", "max_output_tokens", "metadata", "model", "parallel_tool_calls",
    "previous_response_id", "reasoning", "store", "stream", "text", "tool_choice", "tools", "top_logprobs",
}  # fmt: skip
_INCLUDED = ("reasoning.encrypted_content", "message.output_text.logprobs")


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """``chat`` is what the model is asked; the rest concerns this dialect alone.

    ``input_items`` are the client's own items as they came, without ``history``. ``echo`` are the members of the answer
    that repeat the request. ``store`` is what the client asked for; the default of this API is to store.
    """

    chat: ChatRequest
    store: bool = True
    previous_response_id: str | None = None
    input_items: tuple[dict[str, Any], ...] = ()
    encrypted_reasoning: bool = False
    echo: dict[str, Any] = field(default_factory=dict)


def parse_request(
    body: bytes | Mapping[str, Any],
    *,
    features: frozenset[Feature] = NO_FEATURES,
    history: Sequence[dict[str, Any]] = (),
) -> ResponsesRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it.

    ``history`` are the items, input and output, of the conversation that ``previous_response_id`` names; whoever keeps
    responses knows them, and looks the id up before it parses.
    """
    raw = reading.load(body)
    model = reading.model(raw)
    for key, neutral in REFUSED.items():
        if (value := raw.get(key)) is not None and not any(value is each for each in neutral):
            raise unsupported(key)
    items = _input(raw)
    found = Items(features)
    if (instructions := reading.text(raw, "instructions")) is not None:
        found.messages.append(Message("system", (Text(instructions),)))
    for i, item in enumerate(history):
        found.add(item, f"history[{i}]")
    for i, item in enumerate(items):
        found.add(item, f"input[{i}]")
    found.flush()
    tools, dropped = parse_tools(raw)
    choice = parse_tool_choice(raw, tools, features)
    text = reading.mapping(raw, "text")
    reasoning = reading.mapping(raw, "reasoning")
    included, unknown = _include(raw)
    limit = number(raw, "max_output_tokens", 1, 2**31, whole=True)
    chat = ChatRequest(
        model=model,
        messages=tuple(found.messages),
        tools=() if choice == "none" and "tool_choice" not in features else tools,
        sampling=parse_sampling(raw, features, limit),
        stream=bool(reading.flag(raw, "stream")),
        include_usage=True,
        tool_choice=choice if "tool_choice" in features else None,
        parallel_tool_calls=reading.flag(raw, "parallel_tool_calls"),
        response_format=parse_format(text.get("format"), features, "text.format", inner=None),
        top_logprobs=_logprobs(raw, features, included),
        effort=reading.text(reasoning, "effort", "reasoning."),
        ignored=(*reading.unknown(raw, _READ | IGNORED | REFUSED.keys()), *found.ignored, *dropped, *unknown),
    )
    store, previous = reading.flag(raw, "store"), reading.text(raw, "previous_response_id")
    return ResponsesRequest(
        chat,
        store=store is not False,
        previous_response_id=previous,
        input_items=tuple(items),
        encrypted_reasoning=_INCLUDED[0] in included,
        echo=_echo(raw, chat),
    )


def _input(raw: dict[str, Any]) -> list[Any]:
    given = raw.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list) or not given:
        raise wrong("input", "a string or a non-empty array of items")
    return given


def _include(raw: dict[str, Any]) -> tuple[list[str], list[str]]:
    names = reading.items(raw, "include")
    if not all(isinstance(name, str) for name in names):
        raise wrong("include", "an array of strings")
    return names, [f"include:{reading.printable(name)}" for name in names if name not in _INCLUDED]


def _logprobs(raw: dict[str, Any], features: frozenset[Feature], included: list[str]) -> int | None:
    top: int | None = number(raw, "top_logprobs", 0, 20, whole=True)
    if not top and _INCLUDED[1] not in included:
        return None
    need(features, "logprobs", "top_logprobs" if top else "include")
    return top or 0


def _echo(raw: dict[str, Any], chat: ChatRequest) -> dict[str, Any]:
    """What a response says of its request."""
    text, reasoning = reading.mapping(raw, "text"), reading.mapping(raw, "reasoning")
    metadata = reading.mapping(raw, "metadata")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise wrong("metadata", "an object of strings")
    parallel = chat.parallel_tool_calls
    return {
        "instructions": raw.get("instructions"),
        "max_output_tokens": chat.sampling.max_tokens,
        "metadata": metadata,
        "parallel_tool_calls": True if parallel is None else parallel,
        "previous_response_id": raw.get("previous_response_id"),
        "reasoning": {"effort": chat.effort, "summary": reading.text(reasoning, "summary", "reasoning.")},
        "store": raw.get("store") is not False,
        "temperature": chat.sampling.temperature,
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": raw.get("tool_choice") or "auto",
        "tools": encode_tools(chat.tools),
        "top_logprobs": chat.top_logprobs or 0,
        "top_p": chat.sampling.top_p,
        "truncation": "disabled",
    }
