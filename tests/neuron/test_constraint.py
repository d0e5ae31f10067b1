"""From a request to its grammar, with the marks of reasoning spelled as text: the tiny tokenizer has none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.protocol.events import ToolArgumentsDelta
from cortexd.protocol.request import ChatRequest, NamedTool, ResponseFormat, Sampling, Tool
from neuron.artifacts.tool_calls import ToolCallParser
from neuron.constraint import grammar
from neuron.engine.grammar import Grammar
from neuron.engine.sampler import prepare
from neuron.engine.sequence import EngineRequest, Sequence
from neuron.residents import Chatter
from tests.neuron.engine.test_grammar import EOS, TOKENIZER, VOCABULARY, follow

SCHEMA: dict[str, object] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
                             "additionalProperties": False}  # fmt: skip
CALL = '<tool_call>\n{"name": "f", "arguments": {"n": 3}}\n</tool_call>'


def compiled(*, parser: str | None = None, thinking: bool = False, **request: Any) -> Grammar:
    own = SimpleNamespace(reasoning_parser=parser)
    resident = SimpleNamespace(settings=own, tokenizer=TOKENIZER, vocabulary=lambda: VOCABULARY)
    made = grammar(cast(Chatter, resident), ChatRequest("m", (), **request), thinking=thinking)
    assert made is not None
    return made


FORM = {"response_format": ResponseFormat("json_schema", SCHEMA)}
TOOLS = {"tools": (Tool("f", parameters=SCHEMA),)}
MANY = {**TOOLS, "tool_choice": "required"}


@pytest.mark.parametrize(
    ("text", "may", "how"),
    [
        ('{"n": 3}', True, FORM),
        ('{"n":  3}', False, FORM),
        ('<think>hm {"n</think>\n\n{"n": 3}', True, FORM | {"parser": "think"}),
        ('{"n": 3}', True, FORM | {"parser": "think"}),
        ('hm < </thin\n</think>{"n": 3}', True, FORM | {"parser": "think", "thinking": True}),
        ("hm</think>Hi", False, FORM | {"parser": "think", "thinking": True}),
        ('<think>hm</think>{"n": 3}', False, FORM),
        (CALL, False, FORM),
        (CALL, True, FORM | TOOLS),
        ('{"n": 3}', True, FORM | TOOLS),
        (CALL, False, FORM | TOOLS | {"tool_choice": "none"}),
        ('{"n": 3}', False, FORM | MANY),
        (f"{CALL}\n{CALL}", True, MANY),
        (f"{CALL}\n{CALL}", False, MANY | {"parallel_tool_calls": False}),
        (f"hm</think>\n\n{CALL}", True, MANY | {"parser": "think", "thinking": True}),
    ],
)
def test_the_grammar_of_a_request_takes_what_it_demands_and_nothing_else(
    text: str, may: bool, how: dict[str, Any]
) -> None:
    assert all(follow(compiled(**how), text)) is may


_names = st.sampled_from(["a", "näme", 'q"uote', "</tool_call>", "<|im_end|>", "back\\slash", "漢"])
_numbers = st.integers(-99, 99)
_leaves = st.one_of(
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 8)),
    st.builds(lambda lo, n: {"type": "integer", "minimum": lo, "maximum": lo + n}, _numbers, st.integers(0, 500)),
    st.builds(lambda v: {"enum": v}, st.lists(st.one_of(_names, _numbers, st.none()), min_size=1, unique=True)),
    st.builds(lambda v: {"const": v}, st.one_of(_names, st.booleans())),
    st.just({"type": ["boolean", "null"]}),
)  # fmt: skip


def _objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def make(properties: dict[str, Any], optional: bool) -> dict[str, Any]:
        required = [] if optional else list(properties)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return st.builds(make, st.dictionaries(_names, inner, max_size=4), st.booleans())


_schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        _objects(inner),
        st.builds(lambda i, n: {"type": "array", "items": i, "maxItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=80)
@given(schema=_schemas, seed=st.integers(0, 1 << 32), calls=st.booleans(), greedy=st.booleans())
def test_what_knows_nothing_but_the_grammar_still_says_what_the_schema_describes(
    schema: dict[str, Any], seed: int, calls: bool, greedy: bool
) -> None:
    schema = {"type": "object", "properties": {"it": schema}, "required": ["it"], "additionalProperties": False}
    tools = (Tool('od"d', parameters=schema),)
    request: dict[str, Any] = {"response_format": ResponseFormat("json_schema", schema)}
    if calls:
        request = {"tools": tools, "tool_choice": NamedTool('od"d')}
    engine_request = EngineRequest(
        "r", (1,), prepare(Sampling(temperature=0 if greedy else 1, seed=seed)), EOS, 999, 0.0,
        grammar=compiled(**request),
    )  # fmt: skip
    sequence, noise = Sequence.of(engine_request), np.random.default_rng(seed)
    while not sequence.generated or sequence.generated[-1] not in EOS:
        token = sequence.choose(noise.standard_normal(4096).astype(np.float32) * 3)
        assert token is not None and len(sequence.generated) < 2000, sequence.fault
        sequence.append(token)
    text = TOKENIZER.text(sequence.generated[:-1])
    if calls:
        events = (parser := ToolCallParser("r", enabled=True)).push(text)
        assert parser.calls == 1 and parser.finish() == []
        text = "".join(e.json for e in events if isinstance(e, ToolArgumentsDelta))
    jsonschema.validate(json.loads(text), schema)
