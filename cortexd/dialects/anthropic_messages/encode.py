"""A ChatRequest to the body of ``POST /v1/messages`` of any server that speaks Anthropic's dialect."""

from __future__ import annotations

from typing import Any

import orjson

from cortexd.dialects.anthropic_messages.client import REDACTED
from cortexd.dialects.encoded import Encoded
from cortexd.dialects.reading import unsupported
from cortexd.protocol.request import ChatRequest, Image, Message, NamedTool, Sampling, Text, ToolChoice

# This wire needs a limit; a request of another dialect may have none.
DEFAULT_MAX_TOKENS = 8192
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_NO_WORD = (
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_p",
    "logit_bias",
    "stop_token_ids",
)


def encode_request(request: ChatRequest, *, model: str | None = None) -> Encoded:
    """The body, for ``model`` where the upstream has another name for it.

    Raises ApiError 400 for what changes the form of the answer and cannot be said here: ``n``, ``logprobs``,
    ``response_format`` without a schema.
    """
    if request.n != 1:
        raise unsupported("n", "cannot be served by this model's upstream")
    if request.top_logprobs is not None:
        raise unsupported("logprobs", "cannot be served by this model's upstream")
    body: dict[str, Any] = {"model": model or request.model, "messages": _turns(request)}
    body["max_tokens"] = request.sampling.max_tokens or DEFAULT_MAX_TOKENS
    if lead := _lead(request):
        body["system"] = [_part(part) for message in lead for part in message.content]
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "input_schema": tool.parameters}
            | ({} if tool.description is None else {"description": tool.description})
            | ({} if tool.strict is None else {"strict": tool.strict})
            for tool in request.tools
        ]
    if request.tools and (choice := _tool_choice(request.tool_choice, request.parallel_tool_calls)):
        body["tool_choice"] = choice
    body |= _sampling(request.sampling)
    body |= _thinking(request)
    dropped = [name for name in _NO_WORD if getattr(request.sampling, name) not in (None, ())]
    if (request.sampling.temperature or 0) > 1:
        dropped.append("temperature")
    if request.template_options:
        dropped.append("chat_template_kwargs")
    if request.effort is not None and request.effort not in (*_EFFORTS, "none", "minimal"):
        dropped.append("reasoning_effort")
    return Encoded(body, tuple(dropped))


def _lead(request: ChatRequest) -> list[Message]:
    """The system turns before everything else; later ones stay where they are."""
    found = []
    for message in request.messages:
        if message.role not in ("system", "developer"):
            break
        found.append(message)
    return found


def _turns(request: ChatRequest) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in request.messages[len(_lead(request)) :]:
        role = {"tool": "user", "developer": "system"}.get(message.role, message.role)
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role and role != "system":
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    content = [_part(part) for part in message.content]
    if message.role == "tool":
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": content}
        return [result | ({"is_error": True} if message.tool_failed else {})]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        for call in message.tool_calls
    ]
    return [*_reasoning(message), *content, *calls]


def _reasoning(message: Message) -> list[dict[str, Any]]:
    signature = message.reasoning_signature
    if signature is None:
        return []  # reasoning that its maker has not signed is refused there
    if signature.startswith(REDACTED):
        return [{"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}]
    return [{"type": "thinking", "thinking": message.reasoning or "", "signature": signature}]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.url.startswith("data:") and ";base64," in part.url:
        media, data = part.url.removeprefix("data:").split(";base64,", 1)
        return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}
    return {"type": "image", "source": {"type": "url", "url": part.url}}


def _input(arguments: str) -> dict[str, Any]:
    try:
        value = orjson.loads(arguments or "{}")
    except ValueError:
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"_raw": arguments}


def _tool_choice(choice: ToolChoice | None, parallel: bool | None) -> dict[str, Any]:
    single = {} if parallel is None else {"disable_parallel_tool_use": not parallel}
    match choice:
        case NamedTool():
            return {"type": "tool", "name": choice.name} | single
        case "required":
            return {"type": "any"} | single
        case "none":
            return {"type": "none"}
        case "auto":
            return {"type": "auto"} | single
        case _:
            return {"type": "auto"} | single if single else {}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    found: dict[str, Any] = {"top_p": sampling.top_p, "top_k": sampling.top_k}
    if sampling.temperature is not None:
        found["temperature"] = min(sampling.temperature, 1)  # the other dialects go up to 2
    if sampling.stop:
        found["stop_sequences"] = list(sampling.stop)
    return {key: value for key, value in found.items() if value is not None}


def _thinking(request: ChatRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if request.thinking is not None:
        budget = request.thinking.budget_tokens
        found["thinking"] = {"type": request.thinking.mode} | ({} if budget is None else {"budget_tokens": budget})
    elif request.effort == "none":
        found["thinking"] = {"type": "disabled"}
    config: dict[str, Any] = {}
    if request.effort in _EFFORTS:
        config["effort"] = request.effort
    elif request.effort == "minimal":
        config["effort"] = "low"
    form = request.response_format
    if form is not None:
        if form.kind != "json_schema":
            raise unsupported("response_format", "without a schema cannot be served by this model's upstream")
        config["format"] = {"type": "json_schema", "schema": form.schema}
    return found | ({"output_config": config} if config else {})
