"""A ChatRequest to the body of ``POST /v1/responses`` of any server that speaks this dialect."""

from __future__ import annotations

from typing import Any

from cortexd.dialects.encoded import Encoded
from cortexd.dialects.openai_responses.tools import encode_tools, local_names
from cortexd.dialects.reading import unsupported
from cortexd.protocol.request import ChatRequest, Image, Message, NamedTool, ResponseFormat, Text, ToolChoice

_NO_WORD = (
    "seed",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "min_p",
    "logit_bias",
    "stop_token_ids",
)


def encode_request(request: ChatRequest, *, model: str | None = None) -> Encoded:
    """The body, for ``model`` where the upstream has another name for it. Nothing is stored there.

    Raises ApiError 400 for what changes the answer and cannot be said here: ``n``, ``stop``.
    """
    if request.n != 1:
        raise unsupported("n", "cannot be served by this model's upstream")
    if request.sampling.stop:
        raise unsupported("stop", "cannot be served by this model's upstream")
    names = local_names(request.tools)
    dropped = [name for name in _NO_WORD if getattr(request.sampling, name) not in (None, ())]
    body: dict[str, Any] = {
        "model": model or request.model,
        "input": [item for message in request.messages for item in _items(message, names)],
        "store": False,
        "stream": request.stream or None,
        "max_output_tokens": request.sampling.max_tokens,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "tools": encode_tools(request.tools) or None,
        "tool_choice": _tool_choice(request.tool_choice, names),
        "parallel_tool_calls": request.parallel_tool_calls,
    }
    effort = request.effort or (
        "none" if request.thinking is not None and request.thinking.mode == "disabled" else None
    )
    include = []
    if effort is not None:
        body["reasoning"] = {"effort": effort}
    if effort is not None or any(m.reasoning_signature for m in request.messages):
        include.append("reasoning.encrypted_content")
    if request.top_logprobs is not None:
        body["top_logprobs"] = request.top_logprobs
        include.append("message.output_text.logprobs")
    if include:
        body["include"] = include
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    if request.template_options:
        dropped.append("chat_template_kwargs")
    return Encoded({key: value for key, value in body.items() if value is not None}, tuple(dropped))


def _items(message: Message, names: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    if message.role == "tool":
        output: Any = [_part(part, "input_text") for part in message.content]
        if all(isinstance(part, Text) for part in message.content):
            output = message.text
        return [{"type": "function_call_output", "call_id": message.tool_call_id or "", "output": output}]
    items: list[dict[str, Any]] = []
    if message.reasoning_signature is not None:  # unsigned reasoning is refused there
        summary = [{"type": "summary_text", "text": message.reasoning}] if message.reasoning else []
        items.append({"type": "reasoning", "summary": summary, "encrypted_content": message.reasoning_signature})
    if message.content or not (items or message.tool_calls):
        kind = "output_text" if message.role == "assistant" else "input_text"
        content = [_part(part, kind) for part in message.content]
        items.append({"type": "message", "role": message.role, "content": content})
    for call in message.tool_calls:
        namespace, name = names.get(call.name, (None, call.name))
        item = {"type": "function_call", "call_id": call.id, "name": name, "arguments": call.arguments}
        items.append(item if namespace is None else item | {"namespace": namespace})
    return items


def _part(part: Text | Image, kind: str) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": kind, "text": part.text}
    return {"type": "input_image", "image_url": part.url, "detail": part.detail or "auto"}


def _tool_choice(choice: ToolChoice | None, names: dict[str, tuple[str, str]]) -> Any:
    if not isinstance(choice, NamedTool):
        return choice
    namespace, name = names.get(choice.name, (None, choice.name))
    told = {"type": "function", "name": name}
    return told if namespace is None else told | {"namespace": namespace}


def _format(form: ResponseFormat) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": "json_object"}
    told = {"type": "json_schema", "name": form.name or "answer", "schema": form.schema}
    return told if form.strict is None else told | {"strict": form.strict}
