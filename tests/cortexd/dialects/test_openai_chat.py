"""OpenAI chat completions, both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cortexd.dialects.openai_chat import (
    StreamDecoder,
    StreamEncoder,
    WireGrammar,
    decode_response,
    encode_error,
    encode_request,
    encode_response,
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
    RefusalDelta,
    Started,
    TextDelta,
    Timing,
    TokenLogprob,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import ALL_FEATURES, ChatRequest, Image, NamedTool, ResponseFormat, Text
from tests.cortexd.dialects.streams import Can, borderless, decode, encode, streams


def body(**more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]} | more).encode()


def test_a_whole_conversation_is_read_verbatim_and_in_order() -> None:
    messages = [
        {"role": "system", "content": " You are\n"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "system", "content": "in the middle"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]  # fmt: skip

    request = parse_request(body(messages=messages, stream=True, stream_options={"include_usage": True}))

    assert [m.role for m in request.messages] == ["system", "user", "system", "assistant", "tool"]
    assert [m.text for m in request.messages] == [" You are\n", "ab", "in the middle", "", "ok"]
    assert request.messages[3].tool_calls[0].arguments == '{"x": 1}'
    assert request.stream and request.include_usage


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert parse_request(body(max_tokens=5, max_completion_tokens=3)).sampling.max_tokens == 3


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": "x"}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ],
)
def test_a_wrong_member_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(body(**more))

    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tool_choice": "required"},
        {"logit_bias": {"1": 2}},
        {"presence_penalty": 0.5},
    ],
)
def test_what_is_not_there_yet_is_refused_and_never_ignored(more: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(body(**more))

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(more)))


def test_asking_for_nothing_special_is_no_reason_to_refuse() -> None:
    parse_request(body(n=1, logprobs=False, presence_penalty=0.0, tool_choice="auto", user="u", logit_bias=None))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_request_or_a_400(value: Any) -> None:
    for each in (value, {"model": "m", "messages": value}, {"model": "m", "messages": [value], "tools": value}):
        try:
            parse_request(json.dumps(each).encode())
        except ApiError as e:
            assert e.status == 400


CAN = Can(kinds=("text", "reasoning", "tool_call", "refusal"), choices=3, borders=False)


@given(streams(CAN), st.lists(st.integers(0, 10**6), max_size=20) | st.integers(1, 3))
def test_decoding_what_was_encoded_gives_the_same_events(events: list[Event], cuts: Any) -> None:
    wire = b"".join(encode(StreamEncoder(include_usage=True), events, WireGrammar()))

    assert decode(StreamDecoder(), wire, cuts) == borderless(events)


@given(streams(CAN), st.data())
def test_a_stream_that_was_cut_anywhere_ends_as_failed(events: list[Event], data: st.DataObject) -> None:
    pieces = encode(StreamEncoder(include_usage=True), events, WireGrammar())
    wire = b"".join(pieces[:-1])

    assert pieces[-1] and isinstance(
        decode(StreamDecoder(), wire[: data.draw(st.integers(0, len(wire)))], 7)[-1], Failed
    )


@given(streams(CAN))
def test_the_official_client_understands_every_chunk(events: list[Event]) -> None:
    encoder = StreamEncoder(include_usage=True)

    for payload in Parser().feed(b"".join(encoder.encode(e) for e in events)):
        if payload != b"[DONE]" and b'{"error"' not in payload:
            ChatCompletionChunk.model_validate_json(payload, strict=True)


@given(streams(CAN, failing=False))
def test_a_plain_answer_says_what_the_stream_said(events: list[Event]) -> None:
    answer = encode_response(events)

    ChatCompletion.model_validate_json(json.dumps(answer), strict=True)
    decoded = decode_response(json.loads(json.dumps(answer)))
    assert said(decoded) == said(events)
    assert decoded[-1] == events[-1]


def said(events: list[Event]) -> dict[tuple[int, str], list[str]]:
    """Per choice and kind: a plain answer keeps no order between the kinds."""
    found: dict[tuple[int, str], list[str]] = {}
    for event in events:
        match event:
            case PartStarted(kind="tool_call"):
                found.setdefault((event.choice, "call"), []).append(f"{event.id} {event.name} ")
            case ToolArgumentsDelta():
                found[event.choice, "call"][-1] += event.json
            case TextDelta() | ReasoningDelta() | RefusalDelta():
                key = (event.choice, type(event).__name__)
                found[key] = ["".join(found.get(key, [])) + event.text]
    return found


def test_the_whole_transcript_is_as_openai_writes_it(golden: Any) -> None:
    sure = TokenLogprob("Ich ", -0.5, b"Ich ", (TokenLogprob("Du ", -1.5, b"Du "),))
    events: list[Event] = [
        Started("chatcmpl-1", "m", 7),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), ReasoningSignature("c2ln"), PartEnded(0),
        PartStarted(1, "text"), TextDelta("Ich ", logprobs=(sure,)), TextDelta("schaue ☀"), PartEnded(1),
        PartStarted(0, "refusal", choice=1), RefusalDelta("Nein", 1), PartEnded(0, 1),
        PartStarted(2, "tool_call", "call_1", "look"), ToolArgumentsDelta('{"a"'), ToolArgumentsDelta(":1}"),
        PartEnded(2),
        Finished("tool_calls", Usage(12, 9, 4, 2), Timing(0.5, 0.25, 1.0), None, ("stop",)),
    ]  # fmt: skip
    encoder, cut = StreamEncoder(include_usage=True), StreamEncoder(include_usage=True, request_id="req_1")
    failed = [*events[:7], Failed(ApiError(502, "api_error", "upstream_read_failed", "broke off"))]

    golden("openai_chat.tools.sse", b"".join(encoder.encode(e) for e in events))
    golden("openai_chat.failed.sse", b"".join(cut.encode(e) for e in failed))
    golden("openai_chat.tools.json", orjson.dumps(encode_response(events), option=orjson.OPT_INDENT_2))


def test_the_whole_surface_is_read_where_the_server_has_it() -> None:
    request = everything(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a"},
                                         {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}]},
            {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "f"}}, parallel_tool_calls=False, n=2, seed=1,
        logprobs=True, top_logprobs=3, presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={"5": 1},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
        stop=["a", "b"], max_completion_tokens=3, reasoning_effort="low", min_p=0.5, top_k=3, stream=True,
        stream_options={"include_usage": True}, chat_template_kwargs={"enable_thinking": False}, user="u", zap=1,
    )  # fmt: skip

    assert request.messages[0].content == (Text("a"), Image("data:,", "low"))
    assert (request.n, request.top_logprobs, request.tool_choice) == (2, 3, NamedTool("f"))
    assert request.response_format == ResponseFormat("json_schema", {}, "n", True)
    assert request.sampling.logit_bias == ((5, 1),)
    assert request.ignored == ("zap",)
    encoded = encode_request(request)
    assert encoded.dropped == ()
    assert parse_request(encoded.body, features=ALL_FEATURES) == replace(request, ignored=())


def test_to_openai_itself_only_its_own_members_go() -> None:
    request = everything(top_k=3, max_tokens=2, chat_template_kwargs={"a": 1})

    encoded = encode_request(request, model="gpt", extensions=False)

    assert encoded.body["max_completion_tokens"] == 2 and encoded.body["model"] == "gpt"
    assert "top_k" not in encoded.body
    assert encoded.dropped == ("top_k", "chat_template_kwargs")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": True}, "n"),
        ({"n": 129}, "n"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": [{}]}, "functions"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    ],
)
def test_a_wrong_value_of_the_wider_surface_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        everything(**more)

    assert caught.value.param == param and param in caught.value.message


def everything(**more: Any) -> ChatRequest:
    return parse_request(body(**more), features=ALL_FEATURES)


def test_a_choice_that_never_ended_makes_the_stream_a_failure() -> None:
    encoder = StreamEncoder(include_usage=False)
    events = [Started("i", "m", 0), PartStarted(0, "text", choice=1), TextDelta("x", 1), PartEnded(0, 1)]
    wire = b"".join(encoder.encode(e) for e in events) + encoder.encode(Finished("stop", Usage(0, 0)))

    assert isinstance(decode(StreamDecoder(), wire, 9)[-1], Failed)


@pytest.mark.parametrize("wrong", [{"id": "other"}, {"object": "x"}, {"choices": []}])
def test_the_grammar_finds_what_would_confuse_a_client(wrong: dict[str, Any]) -> None:
    grammar = WireGrammar()
    wire = StreamEncoder(include_usage=False).encode(Started("i", "m", 0))
    grammar.feed(wire)
    chunk = json.loads(Parser().feed(wire)[0])

    with pytest.raises(WireError):
        grammar.check(chunk | wrong)


def test_a_plain_answer_is_the_fold_of_the_stream() -> None:
    answer = encode_response(
        [
            Started("id", "m", 7),
            PartStarted(0, "text"),
            TextDelta("a"),
            TextDelta("b"),
            PartEnded(0),
            PartStarted(1, "tool_call", "c", "f"),
            ToolArgumentsDelta("{}"),
            PartEnded(1),
            Finished("tool_calls", Usage(1, 2)),
        ]
    )

    message = answer["choices"][0]["message"]
    assert message["content"] == "ab"
    assert message["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert answer["usage"]["total_tokens"] == 3


def test_extras_of_an_error_never_hide_its_own_members() -> None:
    error = ApiError(400, "t", "c", "m", extras={"message": "other", "max_tokens": 3})

    assert encode_error(error)["error"] == {"message": "m", "type": "t", "code": "c", "param": None, "max_tokens": 3}
