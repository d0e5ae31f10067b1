"""What a request demands of the answer's form, as a grammar: a JSON schema, tool calls, after reasoning if need be.

JSON is written as Python writes it: one line, a space after ``:`` and ``,``. So an answer cannot end in white space
without end. A keyword that no grammar knows is refused where the client was promised the schema (``response_format``,
and tools with ``strict``); in other tools it is not enforced.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn

from cortexd.protocol.errors import ApiError, invalid_request
from cortexd.protocol.request import ChatRequest, NamedTool, Tool
from neuron.artifacts import reasoning, tool_calls
from neuron.engine.grammar import Grammar, GrammarError, Vocabulary
from neuron.residents import Chatter

_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def grammar(resident: Chatter, request: ChatRequest, *, thinking: bool) -> Grammar | None:
    """What the answer must follow; None for free text. ``thinking``: it begins within reasoning.

    Raises ApiError 400 that names the schema which is at fault.
    """
    forced = called(request)
    if not forced and request.response_format is None:
        return None
    try:
        vocabulary = resident.vocabulary()
    except GrammarError as e:
        place = "tool_choice" if forced else "response_format"
        raise invalid_request(str(e), code="unsupported_parameter", param=place) from e
    marks = _Marks(resident, vocabulary)
    rules, bodies = [], []
    if request.response_format is not None and not forced:
        rules.append(f"form: {_json(request.response_format.schema or {'type': 'object'}, lenient=False)}")
        bodies.append("form")
    # an answer in a given form may still be a call, where tools are on offer
    offered = forced or ([] if request.tool_choice == "none" else list(request.tools))
    if offered:
        repeat = "" if isinstance(request.tool_choice, NamedTool) or request.parallel_tool_calls is False else "*"
        rules += _calls(offered, marks)
        bodies.append(f'call ("\\n" call){repeat}' if repeat else "call")
    body = " | ".join(bodies)
    start = "body"
    if resident.settings.reasoning_parser is not None:
        # text runs up to the first mark, wherever its tokens are cut; a special token is no text and ends it anyway
        close = marks.of(reasoning.CLOSE)
        ending = (f"[suffix={close}]", "") if close.startswith('"') else ("", f" {close}")
        rules += [f"thinking{ending[0]}: /(.|\\n)*/", f"thought: thinking{ending[1]} /\\n{{0,2}}/"]
        start = "thought body" if thinking else f"({marks.of(reasoning.OPEN)} thought)? body"
    text = "\n".join([f"start: {start}", f"body: {body}", *rules])
    try:
        return vocabulary.compile(text)
    except GrammarError as e:
        _blame(vocabulary, request, offered, e)


def called(request: ChatRequest) -> list[Tool]:
    """The tools of which the answer must call one; none where it need not. Raises ApiError 400."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return []
    found = [t for t in request.tools if not isinstance(choice, NamedTool) or t.name == choice.name]
    if not found:
        message = "'tool_choice' demands a call, and 'tools' has nothing to call"
        raise invalid_request(message, code="invalid_value", param="tool_choice")
    return found


class _Marks:
    """Marks in the model's text: what its tokenizer has as a special token is named, anything else is text."""

    def __init__(self, resident: Chatter, vocabulary: Vocabulary) -> None:
        self._resident = resident
        self._vocabulary = vocabulary

    def of(self, mark: str) -> str:
        tokens = self._resident.tokenizer.encode(mark)
        special = len(tokens) == 1 and self._vocabulary.is_special(tokens[0])
        return mark if special else json.dumps(mark)


def _calls(tools: Sequence[Tool], marks: _Marks) -> list[str]:
    """Rules of which ``call`` is the first: a call to one of the tools, in the form that the parser finds."""
    each = " | ".join(f"tool_{i}" for i in range(len(tools)))
    rules = [f'call: {marks.of(tool_calls.OPEN)} "\\n" ({each}) "\\n" {marks.of(tool_calls.CLOSE)}']
    for i, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
        rules.append(f'tool_{i}: {json.dumps(head, ensure_ascii=False)} arguments_{i} "}}"')
        rules.append(f"arguments_{i}: {_json(_parameters(tool), lenient=not tool.strict)}")
    return rules


def _parameters(tool: Tool) -> dict[str, object]:
    """Arguments are an object, also where the schema leaves that open."""
    return tool.parameters if "type" in tool.parameters else {"type": "object"} | tool.parameters


def _json(schema: dict[str, object], *, lenient: bool) -> str:
    # a client's own options for the library are not for clients to set
    own = {key: value for key, value in schema.items() if key != "x-guidance"}
    return "%json " + json.dumps(own | {"x-guidance": _STYLE | {"lenient": lenient}})


def _blame(vocabulary: Vocabulary, request: ChatRequest, tools: Sequence[Tool], error: GrammarError) -> NoReturn:
    """Raise the ApiError for the schema that does not compile alone; for the whole, where each does."""
    if (form := request.response_format) is not None:
        _try(vocabulary, _json(form.schema or {"type": "object"}, lenient=False), "response_format.json_schema.schema")
    for tool in tools:
        at = f"tools[{request.tools.index(tool)}].function.parameters"
        _try(vocabulary, _json(_parameters(tool), lenient=not tool.strict), at)
    raise _refused("tool_choice" if tools else "response_format", error)


def _try(vocabulary: Vocabulary, rule: str, place: str) -> None:
    try:
        vocabulary.compile(f"start: {rule}")
    except GrammarError as e:
        raise _refused(place, e) from e


def _refused(place: str, error: GrammarError) -> ApiError:
    message = f"'{place}' cannot be followed: {error}"
    return invalid_request(message, code="invalid_schema", param=place)
