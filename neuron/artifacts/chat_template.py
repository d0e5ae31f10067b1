"""The model's own chat template, rendered as Hugging Face's templates expect, in a sandbox.

Source: the conventions of transformers' chat templates (trimmed blocks, ``tojson``, ``raise_exception``,
``strftime_now``). Nothing is added to what the template makes of the messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cortexd.protocol.errors import ApiError
from cortexd.protocol.request import ChatRequest, Message, Tool
from neuron.artifacts.store import ArtifactError


class ChatTemplate:
    """Renders prompts. ``now`` gives the time for templates that write the date."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = datetime.now) -> None:
        source, self._tokens = _find(folder)
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except TemplateError as e:
            raise ArtifactError(f"{folder}: the chat template is broken: {e}") from e

    def render(self, request: ChatRequest) -> str:
        """The prompt. Raises ApiError 422 when the template refuses these messages."""
        try:
            return self._template.render(
                **self._tokens,
                messages=[_message(m) for m in request.messages],
                tools=[_tool(t) for t in request.tools] or None,
                add_generation_prompt=True,
                **{k: v for k, v in request.template_options.items() if k not in ("messages", "tools")},
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as e:
            message = f"the model's chat template cannot render these messages: {e}"
            raise ApiError(422, "invalid_request_error", "template_render_failed", message, "messages") from e


def _find(folder: Path) -> tuple[str, dict[str, str]]:
    """The template's source, and the special tokens that it may name."""
    config: dict[str, Any] = {}
    if (path := folder / "tokenizer_config.json").is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
    tokens = {key: _token(config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    if (path := folder / "chat_template.jinja").is_file():
        source: Any = path.read_text(encoding="utf-8")
    elif (path := folder / "chat_template.json").is_file():
        source = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
    else:
        source = config.get("chat_template")
    if isinstance(source, list):  # several named templates
        named = {entry["name"]: entry["template"] for entry in source}
        source = named.get("default") or next(iter(named.values()), None)
    if not isinstance(source, str):
        raise ArtifactError(f"{folder}: no chat template (chat_template.jinja); a chat model needs one")
    return source, tokens


def _token(said: Any) -> str:
    return str(said.get("content", "")) if isinstance(said, dict) else str(said or "")


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    # Jinja's own filter escapes HTML characters, which a prompt must not have
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _message(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        made["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _arguments(c.arguments)}}
            for c in message.tool_calls
        ]
    optional = {"tool_call_id": message.tool_call_id, "name": message.name, "reasoning_content": message.reasoning}
    return made | {key: value for key, value in optional.items() if value is not None}


def _arguments(text: str) -> Any:
    """Templates iterate over the arguments; text that is no JSON stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function | {"parameters": tool.parameters}}


def defaults(folder: Path) -> dict[str, Any]:
    """``generation_config.json`` of the artifact: empty where it has none. Raises ArtifactError."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise ArtifactError(f"{path}: not JSON: {e}") from e
    return said if isinstance(said, dict) else {}


def eos_ids(said: Any, manifest_ids: Sequence[int]) -> tuple[int, ...]:
    """End tokens: what the generation config says, else the manifest."""
    if said is None:
        return tuple(manifest_ids)
    return tuple(said) if isinstance(said, list) else (int(said),)
