"""Answers in a given form over HTTP: whatever the tiny model would say, it is JSON of the schema, or a call."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.neuron.http.test_neuron import client, configure, free_port, start, wait

MODELS = """
[[models]]
id = "org/tiny"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 4096
max_sequences = 4
pinned = true
"""
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ü"]}, "maxItems": 3},
        "home": {"$ref": "#/$defs/home"},
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
    "$defs": {"home": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"zip": {"const": "x</tool_call>"}},
                                                    "required": ["zip"], "additionalProperties": False}]}},
}  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"enum": ["yes", "no", 3, None]},
    {"type": "string", "pattern": "^[a-f]{3}-[0-9]{2}$"},
    {"type": "object", "properties": {"at": {"type": "string", "format": "date"}}, "required": ["at"],
     "additionalProperties": False},
]  # fmt: skip
TOOLS = [
    {"type": "function", "function": {"name": "look_up", "description": "Finds.", "parameters": PERSON}},
    {"type": "function", "function": {"name": 'od"d', "parameters": {
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"],
        "additionalProperties": False}}},
]  # fmt: skip
wild = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0, 0.7, 1, 1.8]), "seed": st.integers(0, 10**6), "top_k": st.sampled_from([0, 20])}
)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def neuron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("neuron"), free_port()
    process = start(configure(folder, port, MODELS))
    with client(port) as http:
        try:
            wait(http, process)
            yield http
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()
            assert "Traceback" not in (folder / "log").read_text()


def post(neuron: httpx.Client, **more: Any) -> httpx.Response:
    body = {"model": "org/tiny", "messages": [{"role": "user", "content": "say hi"}], "max_tokens": 400, **more}
    return neuron.post("/v1/chat/completions", json=body)


def choices(neuron: httpx.Client, **more: Any) -> list[dict[str, Any]]:
    answer = post(neuron, **more)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["choices"]
    return found


def streamed(neuron: httpx.Client, **more: Any) -> tuple[str, str]:
    text, reason = "", ""
    for line in post(neuron, stream=True, **more).text.splitlines():
        if line.startswith("data: {"):
            choice = json.loads(line[6:])["choices"][0]
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    return text, reason


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}


@few
@given(sampling=wild, schema=st.sampled_from(SCHEMAS))
def test_an_answer_is_valid_for_its_schema_and_its_stream_says_the_same(
    neuron: httpx.Client, sampling: dict[str, Any], schema: dict[str, Any]
) -> None:
    for choice in choices(neuron, n=2, response_format=form(schema), **sampling):
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), schema)
    alone = choices(neuron, response_format=form(schema), **sampling)[0]
    assert streamed(neuron, response_format=form(schema), **sampling) == (alone["message"]["content"], "stop")


def test_free_rows_beside_bound_ones_say_what_they_say_alone(neuron: httpx.Client) -> None:
    free = [{"seed": i, "temperature": 1, "max_tokens": 60} for i in range(6)]
    bound = [{"seed": i, "temperature": 1, "response_format": form(SCHEMAS[i % len(SCHEMAS)])} for i in range(10)]
    alone = [choices(neuron, **more)[0]["message"]["content"] for more in free + bound]

    mixed = [more for pair in zip(free, bound, strict=False) for more in pair] + bound[len(free) :]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda more: choices(neuron, **more)[0]["message"]["content"], mixed))

    assert sorted(together) == sorted(alone)
    for more, text in zip(mixed, together, strict=True):
        if "response_format" in more:
            jsonschema.validate(json.loads(text), more["response_format"]["json_schema"]["schema"])


@few
@given(sampling=wild)
def test_any_json_object_is_an_object_unless_its_length_ran_out(neuron: httpx.Client, sampling: dict[str, Any]) -> None:
    choice = choices(neuron, response_format={"type": "json_object"}, **sampling)[0]
    text = choice["message"]["content"]
    assert text.startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


@few
@given(sampling=wild, named=st.sampled_from([None, "look_up", 'od"d']), form_too=st.booleans())
def test_a_forced_call_has_arguments_that_are_valid_for_its_tool(
    neuron: httpx.Client, sampling: dict[str, Any], named: str | None, form_too: bool
) -> None:
    chosen: Any = {"type": "function", "function": {"name": named}} if named else "required"
    more = {"response_format": form(SCHEMAS[1])} if form_too else {}
    choice = choices(neuron, tools=TOOLS, tool_choice=chosen, parallel_tool_calls=False, **sampling, **more)[0]

    assert choice["finish_reason"] == "tool_calls" and not choice["message"]["content"]
    [call] = choice["message"]["tool_calls"]
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    assert named in (None, call["function"]["name"])
    jsonschema.validate(json.loads(call["function"]["arguments"]), schemas[call["function"]["name"]])  # type: ignore[index]


def test_with_tools_on_offer_an_answer_in_a_form_is_that_or_calls(neuron: httpx.Client) -> None:
    for seed in range(8):
        choice = choices(
            neuron, tools=TOOLS, response_format=form(SCHEMAS[0]), parallel_tool_calls=False, seed=seed, temperature=2
        )[0]
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS[0])
        else:
            assert choice["finish_reason"] == "tool_calls" and len(choice["message"]["tool_calls"]) == 1


def test_tool_choice_none_hides_the_tools_from_the_model(neuron: httpx.Client) -> None:
    plain = post(neuron, temperature=0).json()
    hidden = post(neuron, temperature=0, tools=TOOLS, tool_choice="none").json()
    assert (plain["usage"], plain["choices"]) == (hidden["usage"], hidden["choices"])


def broken(schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    function = {"name": "f", "parameters": schema, "strict": strict}
    return {"tools": [*TOOLS, {"type": "function", "function": function}], "tool_choice": "required"}


@pytest.mark.parametrize(
    ("more", "param", "said"),
    [
        ({"response_format": form({"type": "frob"})}, "response_format.json_schema.schema", "frob"),
        ({"response_format": form({"$ref": "#/no"})}, "response_format.json_schema.schema", "/no"),
        ({"response_format": form({"not": {}})}, "response_format.json_schema.schema", "not"),
        ({"response_format": form({"pattern": "((", "type": "string"})}, "response_format.json_schema.schema", "(("),
        (broken({"type": "object", "propertyNames": {}}), "tools[2].function.parameters", "propertyNames"),
        (broken({"type": 7}, strict=False), "tools[2].function.parameters", "type"),
        ({"tool_choice": "required"}, "tool_choice", "nothing to call"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_by_its_place(
    neuron: httpx.Client, more: dict[str, Any], param: str, said: str
) -> None:
    answer = post(neuron, **more)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param and said in error["message"] and "start:" not in error["message"]
    assert error["code"] in ("invalid_schema", "invalid_value")


def test_a_tool_without_strict_may_have_keywords_that_no_grammar_knows(neuron: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"n": {"const": 4}}, "required": ["n"], "additionalProperties": False}
    more = broken(schema | {"propertyNames": {"type": "string"}}, strict=False)
    choice = choices(neuron, **more | {"tool_choice": {"type": "function", "function": {"name": "f"}}})[0]
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"n": 4}
