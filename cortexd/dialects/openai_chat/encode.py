"""A ChatRequest to the body of ``POST /v1/chat/completions`` of any OpenAI-compatible server."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.encoded import Encoded
from cortexd.dialects.sampling import encode_sampling
from cortexd.protocol.request import ChatRequest, Image, Message, NamedTool, ResponseFormat, Text, Tool, ToolChoice


def encode_request(request: ChatRequest, *, model: str | None = None, extensions: bool = True) -> Encoded:
    """The body, for ``model`` where the upstream has another name for it. A stream is asked for its usage always.

    ``extensions`` false keeps to what OpenAI itself knows; servers of open models know more (``top_k``,
    ``chat_template_kwargs``, reasoning in messages).
    """
    limit = "max_tokens" if extensions else "max_completion_tokens"
    sampling, dropped = encode_sampling(request.sampling, limit, extensions=extensions)
    body: dict[str, Any] = {
        "model": model or request.model,
        "messages": [_message(message, extensions=extensions) for message in request.messages],
    }
    body |= sampling
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format is not None:
        body["response_format"] = _format(request.response_format)
    if request.n != 1:
        body["n"] = request.n
    if request.top_logprobs is not None:
        body |= {"logprobs": True} | ({"top_logprobs": request.top_logprobs} if request.top_logprobs else {})
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    options = _template_options(request)
    if extensions and options:
        body["chat_template_kwargs"] = options
    elif options:
        dropped.append("chat_template_kwargs")
    if any(message.tool_failed for message in request.messages):
        dropped.append("is_error")
    return Encoded(body, tuple(dropped))


def _template_options(request: ChatRequest) -> dict[str, object]:
    """What the client said itself; a wish for thinking as the name that chat templates have for it."""
    if request.thinking is None:
        return request.template_options
    return {"enable_thinking": request.thinking.mode != "disabled"} | request.template_options


def _message(message: Message, *, extensions: bool) -> dict[str, Any]:
    parts = [_part(part) for part in message.content]
    plain = len(parts) == 1 and parts[0]["type"] == "text"
    content: Any = parts[0]["text"] if plain else parts
    made: dict[str, Any] = {"role": message.role, "content": content if parts or message.role != "assistant" else None}
    if message.tool_calls:
        made["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    more: dict[str, Any] = {"tool_call_id": message.tool_call_id, "name": message.name}
    if extensions:
        more |= {"reasoning_content": message.reasoning, "reasoning_signature": message.reasoning_signature}
    return made | {key: value for key, value in more.items() if value is not None}


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    detail = {} if part.detail is None else {"detail": part.detail}
    return {"type": "image_url", "image_url": {"url": part.url} | detail}


def _tool(tool: Tool) -> dict[str, Any]:
    optional = {"description": tool.description, "strict": tool.strict}
    function = {"name": tool.name} | {key: value for key, value in optional.items() if value is not None}
    return {"type": "function", "function": function | {"parameters": tool.parameters}}


def _tool_choice(choice: ToolChoice) -> Any:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _format(form: ResponseFormat) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": "json_object"}
    told: dict[str, Any] = {"name": form.name or "answer", "schema": form.schema}
    if form.strict is not None:
        told["strict"] = form.strict
    return {"type": "json_schema", "json_schema": told}
