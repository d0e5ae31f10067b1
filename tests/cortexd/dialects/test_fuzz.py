"""Nothing that a client or an upstream sends gets anything but an answer of its own dialect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.dialects import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from cortexd.dialects.decoding import Decoder
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import Event, Failed
from cortexd.protocol.grammar import Grammar
from cortexd.protocol.request import ALL_FEATURES, NO_FEATURES
from tests.cortexd.dialects.streams import decode

FEATURES = (ALL_FEATURES, NO_FEATURES)
PARSERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (openai_chat, {"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    "completions": (openai_completions, {"model": "m", "prompt": "x"}),
    "responses": (openai_responses, {"model": "m", "input": "x"}),
    "embeddings": (openai_embeddings, {"model": "m", "input": "x"}),
    "messages": (anthropic_messages, {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
}
ALL = pytest.mark.parametrize("dialect", PARSERS)

# Words that the readers look for, so that chance comes deep into them.
_WORDS = """
type role content text name function id input output user assistant system tool tool_use tool_result thinking
image image_url input_text input_image url source base64 data message function_call call_id arguments summary
reasoning tools tool_choice namespace any auto required none json_schema schema format stop n logprobs
max_tokens messages prompt stream stream_options include_usage instructions include metadata output_config
effort parameters input_schema enabled budget_tokens chat_template_kwargs logit_bias dimensions encoding_format
"""
WORDS = st.sampled_from(_WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def refused_or_read(dialect: str, body: bytes) -> None:
    module, _ = PARSERS[dialect]
    for features in FEATURES:
        more = {} if dialect == "embeddings" else {"features": features}
        try:
            module.parse_request(body, **more)
        except ApiError as e:
            assert 400 <= e.status < 500
            told = json.loads(json.dumps(module.encode_error(e, "req_1")))
            assert told["error"]["message"] and told["error"]["type"] == "invalid_request_error"
            assert e.param is None or e.param.partition("[")[0].partition(".")[0] in orjson_text(body)


def orjson_text(body: bytes) -> str:
    return body.decode(errors="replace") + " model messages prompt input max_tokens logprobs thinking"


@ALL
@given(value=JSON)
def test_any_json_is_read_or_refused(dialect: str, value: Any) -> None:
    refused_or_read(dialect, json.dumps(value).encode())


@ALL
@given(key=WORDS, value=JSON)
@settings(max_examples=300)
def test_any_value_of_any_member_is_read_or_refused(dialect: str, key: str, value: Any) -> None:
    refused_or_read(dialect, json.dumps(PARSERS[dialect][1] | {key: value}).encode())


@ALL
@given(body=st.binary(max_size=40))
def test_any_bytes_are_refused(dialect: str, body: bytes) -> None:
    refused_or_read(dialect, body)


@ALL
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        b'{"model": "m", "tools": ' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"model": "\\ud800"}',
        b'{"model": "m", "temperature": NaN}',
        b'{"model": "m", "temperature": 1e999}',
        b'{"model": "m", "n": ' + b"9" * 5000 + b"}",
        b'{"model": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"",
    ],
    ids=range(10),
)
def test_what_breaks_parsers_is_refused_at_once(dialect: str, body: bytes) -> None:
    began = time.perf_counter()

    with pytest.raises(ApiError):
        PARSERS[dialect][0].parse_request(body)

    assert time.perf_counter() - began < 0.05


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
def test_time_grows_no_faster_than_the_body(dialect: str) -> None:
    module, body = PARSERS[dialect]
    inner = {"name": "f", "parameters": {"type": "object"}, "input_schema": {"type": "object"}}

    def seconds(count: int) -> float:
        tools = [{"type": "function"} | inner | {"name": f"f{i}"} for i in range(count)]
        if dialect == "chat":
            tools = [{"type": "function", "function": tool} for tool in tools]
        elif dialect == "messages":
            tools = [tool | {"type": "custom"} for tool in tools]
        raw = json.dumps(body | {"tools": tools}).encode()
        began = time.process_time()
        module.parse_request(raw)
        return time.process_time() - began

    seconds(10)
    # what grew with the square of the body would take 400 times as long
    assert min(seconds(10_000) for _ in range(3)) < 100 * max(seconds(500) for _ in range(3))


DECODERS: dict[str, Callable[[], Decoder]] = {
    "chat": openai_chat.StreamDecoder,
    "completions": openai_completions.StreamDecoder,
    "responses": openai_responses.StreamDecoder,
    "messages": anthropic_messages.StreamDecoder,
}
STARTS: dict[str, list[Any]] = {
    "chat": [{"id": "i", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}],
    "completions": [{"id": "i", "choices": []}],
    "responses": [{"type": "response.created", "response": {"id": "i"}}],
    "messages": [{"type": "message_start", "message": {"id": "i"}}],
}
_KINDS = """
content_block_start content_block_delta content_block_stop message_delta message_stop message_start error ping
response.output_item.added response.output_item.done response.output_text.delta response.content_part.added
response.reasoning_summary_text.delta response.function_call_arguments.delta response.completed response.failed
response.function_call_arguments.done response.reasoning_summary_part.added response.created
"""
KINDS = st.sampled_from(_KINDS.split())
_INNER = """
text text_delta thinking thinking_delta signature_delta input_json_delta tool_use redacted_thinking message
reasoning function_call output_text refusal stop length
"""
INNER = st.sampled_from(_INNER.split())
_MEMBERS = """
type index delta content_block message text thinking signature partial_json id name input usage stop_reason
choices finish_reason content reasoning_content tool_calls function arguments item part response output error
logprobs status call_id encrypted_content summary incomplete_details prompt_tokens data created code
"""
MEMBERS = st.sampled_from(_MEMBERS.split())
PAYLOADS = st.dictionaries(
    MEMBERS,
    st.recursive(
        st.none() | st.integers(-2, 200) | INNER | st.floats(allow_nan=False, width=16),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(MEMBERS, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.parametrize("dialect", DECODERS)
@given(
    payloads=st.lists(st.tuples(st.none() | KINDS, PAYLOADS), max_size=5),
    started=st.booleans(),
    cuts=st.integers(1, 99),
)
@settings(max_examples=300)
def test_an_upstream_that_says_anything_gets_a_stream_that_ends(
    dialect: str, payloads: list[Any], started: bool, cuts: int
) -> None:
    bodies = (STARTS[dialect] if started else []) + [p if k is None else p | {"type": k} for k, p in payloads]

    decode(DECODERS[dialect](), b"".join(b"data: " + orjson.dumps(b) + b"\n\n" for b in bodies), cuts)


@pytest.mark.parametrize("dialect", DECODERS)
@given(wire=st.binary(max_size=60))
def test_an_upstream_that_sends_noise_has_failed(dialect: str, wire: bytes) -> None:
    assert isinstance(decode(DECODERS[dialect](), b"data: " + wire, 7)[-1], Failed)


@pytest.mark.parametrize("dialect", DECODERS)
@given(body=JSON | st.binary(max_size=20))
def test_a_plain_answer_that_makes_no_sense_has_failed(dialect: str, body: Any) -> None:
    modules = {"chat": openai_chat, "completions": openai_completions, "responses": openai_responses}
    events: list[Event] = modules.get(dialect, anthropic_messages).decode_response(body)

    grammar = Grammar()
    for event in events:
        grammar.check(event)
    assert isinstance(events[-1], Failed)


@pytest.mark.parametrize("dialect", DECODERS)
def test_an_event_without_end_does_not_fill_the_memory(dialect: str) -> None:
    decoder = DECODERS[dialect]()
    events: list[Event] = []
    for _ in range(40):
        events += decoder.feed(b"x" * (1 << 20))

    assert [type(e) for e in events] == [Failed]
    assert decoder.close() == []


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_both_line_ends_are_understood_wherever_the_cut_is(ends: bytes) -> None:
    lines = [b": comment", b"event: x", b'data: {"id":"i","choices":[{"index":0,"delta":', b'data: {"content":"a"},',
             b'data: "finish_reason":"stop"}]}', b"", b"data: [DONE]", b"", b""]  # fmt: skip
    wire = ends.join(lines)

    whole = decode(openai_chat.StreamDecoder(), wire, len(wire))
    assert len(whole) == 5
    for cut in range(len(wire)):
        assert decode(openai_chat.StreamDecoder(), wire, [cut]) == whole
