"""OpenAI chat completions, both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortexd.dialects.openai_chat import StreamDecoder, StreamEncoder, encode_error, encode_response, parse_request
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import (
    Event,
    Failed,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    Timing,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.grammar import Grammar


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
        {"n": True},
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


texts = st.text(min_size=1, max_size=8)


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = [Started("chatcmpl-1", "m", 7)]
    previous = None
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(
            st.sampled_from([k for k in ("text", "reasoning", "tool_call") if k != previous or k == "tool_call"])
        )
        previous = kind
        index = sum(isinstance(e, PartStarted) for e in events)
        if kind == "tool_call":
            events.append(PartStarted(index, "tool_call", f"call_{index}", draw(texts)))
            events += [ToolArgumentsDelta(t) for t in draw(st.lists(texts, max_size=3))]
        else:
            events.append(PartStarted(index, kind))
            delta = TextDelta if kind == "text" else ReasoningDelta
            events += [delta(t) for t in draw(st.lists(texts, min_size=1, max_size=3))]
        events.append(PartEnded(index))
    if draw(st.booleans()):
        events.append(Finished("length", Usage(3, 4, 1, 2), Timing(0.5, 0.25, 1.0)))
    else:
        events.append(Failed(ApiError(502, "api_error", "x", "cut", extras={"more": 1})))
    return events


@given(streams(), st.integers(1, 40))
def test_decoding_what_was_encoded_gives_the_same_events(events: list[Event], size: int) -> None:
    encoder, decoder, grammar = StreamEncoder(include_usage=True), StreamDecoder(), Grammar()
    wire = b"".join(encoder.encode(e) for e in events)

    decoded: list[Event] = []
    for at in range(0, len(wire), size):
        decoded += decoder.feed(wire[at : at + size])
    decoded += decoder.close()

    for event in decoded:
        grammar.check(event)
    assert grammar.ended
    assert decoded == events


@given(streams(), st.data())
def test_a_stream_that_was_cut_anywhere_ends_as_failed(events: list[Event], data: st.DataObject) -> None:
    encoder, decoder, grammar = StreamEncoder(include_usage=True), StreamDecoder(), Grammar()
    parts = [encoder.encode(e) for e in events]
    wire, last = b"".join(parts[:-1]), parts[-1]
    cut = data.draw(st.integers(0, len(wire)))

    decoded = [*decoder.feed(wire[:cut]), *decoder.close()]

    for event in decoded:
        grammar.check(event)
    assert last and isinstance(decoded[-1], Failed)


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
