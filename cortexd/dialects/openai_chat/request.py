"""``POST /v1/chat/completions``: JSON to a ChatRequest, or a 400 that names the place.

Source: OpenAI's API reference for chat completions, and what its SDKs and common clients send.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortexd.dialects import reading
from cortexd.dialects.openai_chat.messages import parse_message
from cortexd.dialects.reading import need, number, required_text, unsupported, wrong
from cortexd.dialects.sampling import READ, parse_format, parse_sampling
from cortexd.protocol.request import NO_FEATURES, ChatRequest, Feature, NamedTool, Tool, ToolChoice

# Accepted and without effect here: they concern OpenAI's own accounts, storage and routing, or only permit something.
IGNORED = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
# Refused, unless the value asks for nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "web_search_options": (),
}
_READ = READ | {
    "chat_template_kwargs", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "n",
    "parallel_tool_calls", "reasoning_effort", "response_format", "stream", "stream_options", "tool_choice", "tools",
    "top_logprobs",
}  # fmt: skip
MOST_CHOICES = 128


def parse_request(body: bytes | Mapping[str, Any], *, features: frozenset[Feature] = NO_FEATURES) -> ChatRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it, and for what ``features`` lacks."""
    raw = reading.load(body)
    model = reading.model(raw)
    for key, neutral in REFUSED.items():
        if (value := raw.get(key)) is not None and value not in neutral:
            raise unsupported(key)
    messages = raw.get("messages")
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "a non-empty array")
    options = reading.mapping(raw, "stream_options")
    tools = _tools(raw)
    choice = _tool_choice(raw, tools, features)
    limit = number(raw, "max_completion_tokens", 1, 2**31, whole=True)
    older = number(raw, "max_tokens", 1, 2**31, whole=True)
    return ChatRequest(
        model=model,
        messages=tuple(parse_message(m, f"messages[{i}]", features) for i, m in enumerate(messages)),
        tools=() if choice == "none" and "tool_choice" not in features else tools,
        sampling=parse_sampling(raw, features, older if limit is None else limit),
        stream=bool(reading.flag(raw, "stream")),
        include_usage=bool(reading.flag(options, "include_usage", "stream_options.")),
        template_options=reading.mapping(raw, "chat_template_kwargs"),
        tool_choice=choice if "tool_choice" in features else None,
        parallel_tool_calls=reading.flag(raw, "parallel_tool_calls"),
        response_format=parse_format(raw.get("response_format"), features, "response_format", inner="json_schema"),
        n=_choices(raw, features),
        top_logprobs=_logprobs(raw, features),
        effort=reading.text(raw, "reasoning_effort"),
        ignored=reading.unknown(raw, _READ | IGNORED | REFUSED.keys()),
    )


def _choices(raw: Mapping[str, Any], features: frozenset[Feature]) -> int:
    n: int | None = number(raw, "n", 1, MOST_CHOICES, whole=True)
    if n is not None and n != 1:
        need(features, "choices", "n")
    return n or 1


def _logprobs(raw: Mapping[str, Any], features: frozenset[Feature]) -> int | None:
    wanted = reading.flag(raw, "logprobs")
    top: int | None = number(raw, "top_logprobs", 0, 20, whole=True)
    if not wanted:
        if top:
            raise wrong("logprobs", "true where 'top_logprobs' is set")
        return None
    need(features, "logprobs", "logprobs")
    return top or 0


def _tools(raw: Mapping[str, Any]) -> tuple[Tool, ...]:
    found = []
    for i, tool in enumerate(reading.items(raw, "tools")):
        path = f"tools[{i}]"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise wrong(path, "a tool of type 'function' with the member 'function'")
        here = f"{path}.function."
        parameters = reading.mapping(function, "parameters", here, "an object (JSON Schema)")
        found.append(
            Tool(
                required_text(function, "name", here),
                reading.text(function, "description", here),
                parameters or {"type": "object", "properties": {}},
                reading.flag(function, "strict", here),
            )
        )
    return tuple(found)


def _tool_choice(raw: Mapping[str, Any], tools: tuple[Tool, ...], features: frozenset[Feature]) -> ToolChoice | None:
    choice = raw.get("tool_choice")
    match choice:
        case None | "auto" | "none":
            return choice
        case "required":
            need(features, "tool_choice", "tool_choice")
            return "required"
        case {"type": "function", "function": {"name": str(name)}}:
            need(features, "tool_choice", "tool_choice")
            if all(tool.name != name for tool in tools):
                raise wrong("tool_choice.function.name", "the name of one of the functions in 'tools'")
            return NamedTool(name)
        case {"type": "allowed_tools" | "custom"}:
            raise unsupported("tool_choice", "can be auto, none, required or a function here")
    raise wrong("tool_choice", "auto, none, required or {'type': 'function', 'function': {'name': '...'}}")
