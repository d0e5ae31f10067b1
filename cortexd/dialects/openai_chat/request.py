"""``POST /v1/chat/completions``: JSON to a ChatRequest, or a 400 that names the place. Members that no version of the
API knows are ignored.

Source: OpenAI's API reference for chat completions, and what its SDKs and common clients send.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cortexd.protocol.errors import ApiError, invalid_request
from cortexd.protocol.request import ChatRequest, Message, Role, Sampling, Text, Tool, ToolCall

# Accepted and without effect here: they concern OpenAI's own accounts, storage and routing, or only permit something.
IGNORED = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
        "verbosity",
    }
)
# Not there yet: refused, unless the value asks for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto",),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "functions": ([],),
    "function_call": ("auto", "none"),
    "web_search_options": (),
}
_ROLES: tuple[Role, ...] = ("system", "developer", "user", "assistant", "tool")


def parse_request(body: bytes) -> ChatRequest:
    """Parse a body. Raises ApiError (400) for everything that is wrong with it."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid_request("the body is not valid JSON", code="malformed_json") from None
    if not isinstance(raw, dict):
        raise invalid_request("the body must be a JSON object", code="invalid_request_body")
    model = raw.get("model")
    if model is None:
        raise invalid_request("the member 'model' is missing", code="missing_model_field", param="model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "a non-empty string")
    _refuse_unsupported(raw)
    messages = raw.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a non-empty array")
    stream_options = _optional(raw, "stream_options", dict, "an object") or {}
    tools = _tools(raw)
    if raw.get("tool_choice") == "none":
        tools = ()
    return ChatRequest(
        model=model,
        messages=tuple(_message(m, f"messages[{i}]") for i, m in enumerate(messages)),
        tools=tools,
        sampling=_sampling(raw),
        stream=bool(_optional(raw, "stream", bool, "true or false")),
        include_usage=bool(_optional(stream_options, "include_usage", bool, "true or false", "stream_options.")),
        template_options=_optional(raw, "chat_template_kwargs", dict, "an object") or {},
    )


def _wrong(path: str, expected: str) -> ApiError:
    return invalid_request(f"'{path}' must be {expected}", code="invalid_type", param=path)


def _optional(raw: Mapping[str, Any], key: str, kind: type, expected: str, prefix: str = "") -> Any:
    value = raw.get(key)
    if value is not None and not isinstance(value, kind):
        raise _wrong(prefix + key, expected)
    return value


def _refuse_unsupported(raw: Mapping[str, Any]) -> None:
    for key, neutral in _NEUTRAL.items():
        value = raw.get(key)
        if value is None or (key == "tool_choice" and value == "none"):
            continue
        # bool is an int: `n: true` is not `n: 1`
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in neutral):
            raise invalid_request(f"'{key}' is not supported yet", code="unsupported_parameter", param=key)


def _number(raw: Mapping[str, Any], key: str, low: float, high: float, *, whole: bool = False) -> Any:
    value = raw.get(key)
    if value is None:
        return None
    kinds = int if whole else (int, float)
    span = f"from {low:g} to {high:g}" if high < 2**31 else f"of at least {low:g}"
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise _wrong(key, f"{'an integer' if whole else 'a number'} {span}")
    return value


def _sampling(raw: Mapping[str, Any]) -> Sampling:
    stop = raw.get("stop")
    stops = [stop] if isinstance(stop, str) else ([] if stop is None else stop)
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise _wrong("stop", "a non-empty string or an array of at most four of them")
    limit = _number(raw, "max_completion_tokens", 1, 2**31, whole=True)
    older = _number(raw, "max_tokens", 1, 2**31, whole=True)
    return Sampling(
        temperature=_number(raw, "temperature", 0, 2),
        top_p=_number(raw, "top_p", 0, 1),
        top_k=_number(raw, "top_k", 0, 2**31, whole=True),
        seed=_number(raw, "seed", -(2**63), 2**63 - 1, whole=True),
        max_tokens=older if limit is None else limit,
        stop=tuple(stops),
    )


def _message(raw: Any, path: str) -> Message:
    if not isinstance(raw, dict):
        raise _wrong(path, "an object")
    role = raw.get("role")
    if role not in _ROLES:
        raise _wrong(f"{path}.role", f"one of {', '.join(_ROLES)}")
    calls = raw.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list)):
        raise _wrong(f"{path}.tool_calls", "an array, in an assistant message")
    content = _content(raw.get("content"), f"{path}.content", required=role not in ("assistant", "tool"))
    call_id = _optional(raw, "tool_call_id", str, "a string", f"{path}.")
    if role == "tool" and call_id is None:
        raise _wrong(f"{path}.tool_call_id", "a string: the id of the call that this answers")
    return Message(
        role=role,
        content=content,
        tool_calls=tuple(_call(c, f"{path}.tool_calls[{i}]") for i, c in enumerate(calls or [])),
        tool_call_id=call_id,
        name=_optional(raw, "name", str, "a string", f"{path}."),
        reasoning=_optional(raw, "reasoning_content", str, "a string", f"{path}."),
    )


def _content(raw: Any, path: str, *, required: bool) -> tuple[Text, ...]:
    if isinstance(raw, str):
        return (Text(raw),)
    if raw is None and not required:
        return ()
    if not isinstance(raw, list):
        raise _wrong(path, "a string or an array of parts")
    parts = []
    for i, part in enumerate(raw):
        here = f"{path}[{i}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("image_url", "input_audio", "file"):
            raise invalid_request(f"'{here}': {kind} parts are not supported", code="unsupported_parameter", param=here)
        if kind not in ("text", "refusal") or not isinstance(part.get(kind), str):
            raise _wrong(here, "a part such as {'type': 'text', 'text': '...'}")
        parts.append(Text(part[kind]))
    return tuple(parts)


def _call(raw: Any, path: str) -> ToolCall:
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _wrong(path, "a call with 'id' and 'function': {'name', 'arguments'}")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, dict):  # some clients send the object itself
        arguments = json.dumps(arguments)
    if not isinstance(arguments, str):
        raise _wrong(f"{path}.function.arguments", "a string of JSON")
    return ToolCall(str(raw.get("id") or ""), function["name"], arguments)


def _tools(raw: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = _optional(raw, "tools", list, "an array") or []
    found = []
    for i, tool in enumerate(tools):
        path = f"tools[{i}]"
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type", "function") != "function":
            raise _wrong(path, "a tool of type 'function' with the member 'function'")
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise _wrong(f"{path}.function.name", "a non-empty string")
        description = _optional(function, "description", str, "a string", f"{path}.function.")
        parameters = _optional(function, "parameters", dict, "an object (JSON Schema)", f"{path}.function.")
        found.append(Tool(function["name"], description, parameters or {"type": "object", "properties": {}}))
    return tuple(found)
