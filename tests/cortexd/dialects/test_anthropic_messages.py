"""Anthropic's messages, both directions."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from anthropic.types import Message as SdkMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cortexd.dialects.anthropic_messages import (
    KEEP_ALIVE,
    StreamDecoder,
    StreamEncoder,
    WireGrammar,
    decode_error,
    decode_response,
    encode_error,
    encode_request,
    encode_response,
    parse_count_tokens,
    parse_request,
)
from cortexd.dialects.sse import Parser
from cortexd.dialects.wire import WireError
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    ReasoningSignature,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import ALL_FEATURES, ChatRequest, Image, NamedTool, Text, Thinking
from tests.cortexd.dialects.streams import Can, decode, encode, joined, streams

CAN = Can(logprobs=False, timing=False, created=False)


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]} | more


def parse(**more: Any) -> ChatRequest:
    return parse_request(json.dumps(body(**more)).encode(), features=ALL_FEATURES)


def test_what_claude_code_sends_is_read_verbatim_and_in_order() -> None:
    request = parse(
        system=[
            {"type": "text", "text": "billing: 1"},
            {"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}},
        ],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": " a\n"}, {"type": "text", "text": "b"}]},
            {"role": "system", "content": "in the middle"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "text", "text": "I look"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": [
                    {"type": "text", "text": "no"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ]},
                {"type": "text", "text": "go on"},
            ]},
        ],
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        context_management={"edits": []},
        metadata={"user_id": "{}"},
        stream=True,
    )  # fmt: skip

    assert [m.role for m in request.messages] == ["system", "user", "system", "assistant", "tool", "user"]
    assert [m.text for m in request.messages] == [
        "billing: 1You are",
        " a\nb",
        "in the middle",
        "I look",
        "no",
        "go on",
    ]
    assistant, result = request.messages[3], request.messages[4]
    assert (assistant.reasoning, assistant.reasoning_signature) == ("hm", "s1")
    assert [(c.id, c.name, json.loads(c.arguments)) for c in assistant.tool_calls] == [("t1", "f", {"x": 1})]
    assert result.tool_failed and result.content == (Text("no"), Image("data:image/png;base64,QUJD"))
    assert (request.thinking, request.effort, request.ignored) == (Thinking("adaptive"), "high", ())


def test_blocks_that_do_not_fit_one_turn_keep_their_order_in_several() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": "s"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "b"},
    ]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": blocks}]

    request = parse(messages=messages)

    assert [(m.reasoning, m.text, len(m.tool_calls)) for m in request.messages[1:]] == [("a", "", 1), ("", "b", 0)]
    assert encode_request(request).body["messages"][1]["content"] == blocks


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}]},
         "messages[0].content[0].name"),
        ({"system": 3}, "system"),
        ({"system": [{"type": "image"}]}, "system[0]"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"tools": [{"name": ""}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}, {"name": "f"}]}, "tools[1].name"),
        ({"tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**more)

    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in encode_error(caught.value)["error"]["message"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_the_server_cannot_do_is_refused_and_never_dropped(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(body(**more))

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_unknown_members_and_hosted_tools_are_reported_in_words_fit_for_a_header() -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f"}]

    request = parse(tools=tools, zap=1, **{"ü\r\nx": 2})

    assert request.ignored == ("zap", "???x", "tools[0]:web_search_20250305")
    assert [tool.name for tool in request.tools] == ["f"]


def test_counting_needs_no_token_limit() -> None:
    assert (
        parse_count_tokens({"model": "m", "messages": [{"role": "user", "content": "x"}]}).sampling.max_tokens is None
    )


def test_a_request_survives_encoding_and_parsing() -> None:
    request = parse(
        messages=[{"role": "user", "content": "x"}, {"role": "system", "content": "y"}],
        system="s", tools=[{"name": "f", "strict": True}], tool_choice={"type": "tool", "name": "f"}, top_k=3,
        top_p=0.5, temperature=0.5, stop_sequences=["a"], stream=True,
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"},
    )  # fmt: skip

    encoded = encode_request(request)

    assert request.tool_choice == NamedTool("f")
    assert parse_request(encoded.body, features=ALL_FEATURES) == request
    assert encoded.dropped == ()


@given(streams(CAN), st.lists(st.integers(0, 10**6), max_size=20) | st.integers(1, 3))
def test_decoding_what_was_encoded_gives_the_same_events(events: list[Event], cuts: Any) -> None:
    wire = b"".join(encode(StreamEncoder(), events, WireGrammar()))

    assert decode(StreamDecoder(), wire, cuts) == events


@given(streams(CAN), st.data())
def test_a_stream_that_was_cut_anywhere_ends_as_failed(events: list[Event], data: st.DataObject) -> None:
    pieces = encode(StreamEncoder(), events, WireGrammar())
    wire = b"".join(pieces)
    end = wire.rindex(b"event: message_delta") if isinstance(events[-1], Finished) else len(wire) - len(pieces[-1])

    assert isinstance(decode(StreamDecoder(), wire[: data.draw(st.integers(0, end))], 7)[-1], Failed)


@given(streams(CAN))
def test_the_official_client_understands_every_event(events: list[Event]) -> None:
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)

    for payload in Parser().feed(b"".join(StreamEncoder().encode(e) for e in events)):
        if b'"type":"error"' not in payload:
            adapter.validate_json(payload, strict=True)


@given(streams(CAN, failing=False))
def test_a_plain_answer_says_what_the_stream_said(events: list[Event]) -> None:
    events = [ToolArgumentsDelta("{}") if isinstance(e, ToolArgumentsDelta) else e for e in joined(events)]
    answer = encode_response(events)

    SdkMessage.model_validate_json(json.dumps(answer), strict=True)
    started = Started("id-1", "m/x", 0)
    said = [e for e in joined(decode_response(answer)) if e != ToolArgumentsDelta("{}")]
    assert said == [started, *[e for e in events[1:] if e != ToolArgumentsDelta("{}")]]


def test_a_failure_after_the_start_is_this_dialects_error_event() -> None:
    encoder = StreamEncoder("req_1")
    error = ApiError(503, "api_error", "shutting_down", "bye", retry_after=5)

    wire = encoder.encode(Started("i", "m", 0)) + KEEP_ALIVE + encoder.encode(Failed(error))

    assert wire.split(b"\n\n")[-2] == (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"bye",'
        b'"code":"shutting_down","param":null},"request_id":"req_1"}'
    )
    decoded = decode(StreamDecoder(), wire, 5)[-1]
    assert isinstance(decoded, Failed) and decoded.error.code == "shutting_down"


def test_the_whole_transcript_is_as_anthropic_writes_it(golden: Any) -> None:
    events: list[Event] = [
        Started("msg_1", "m", 0, Usage(12, 0, 4)),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), ReasoningSignature("c2ln"), PartEnded(0),
        PartStarted(1, "text"), TextDelta("Ich "), TextDelta("schaue ☀"), PartEnded(1),
        PartStarted(2, "tool_call", "toolu_1", "weather"), ToolArgumentsDelta('{"city"'), ToolArgumentsDelta(':"Ulm"}'),
        PartEnded(2),
        Finished("tool_calls", Usage(12, 9, 4, 2)),
    ]  # fmt: skip
    encoder = StreamEncoder()

    cut = StreamEncoder("req_1")
    failed = [*events[:7], Failed(ApiError(502, "api_error", "upstream_read_failed", "broke off"))]

    golden("anthropic_messages.failed.sse", b"".join(cut.encode(e) for e in failed))
    golden("anthropic_messages.tools.sse", b"".join(encoder.encode(e) for e in events))
    golden("anthropic_messages.tools.json", orjson.dumps(encode_response(events), option=orjson.OPT_INDENT_2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "message_stop"},
        {"type": "message_start", "message": {"content": [], "stop_reason": None, "usage": {}}},
    ],
)
def test_the_grammar_finds_what_would_confuse_a_client(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        WireGrammar().check(wrong)


def test_a_thinking_delta_in_a_text_block_is_found() -> None:
    grammar = WireGrammar()
    grammar.feed(StreamEncoder().encode(Started("i", "m", 0)) + StreamEncoder().encode(PartStarted(0, "text")))

    with pytest.raises(WireError):
        grammar.check({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "x"}})


def test_an_error_is_read_back() -> None:
    error = ApiError(404, "invalid_request_error", "model_not_found", "no", "model", extras={"near": "m2"})

    assert decode_error(encode_error(error), 404) == error
