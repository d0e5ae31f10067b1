"""OpenAI's responses, both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from cortexd.dialects.openai_responses import (
    ResponsesRequest,
    StreamDecoder,
    StreamEncoder,
    WireGrammar,
    decode_response,
    encode_deleted,
    encode_input_items,
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
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import ALL_FEATURES, Image, NamedTool, Text
from tests.cortexd.dialects.streams import Can, decode, encode, joined, streams

CAN = Can(
    kinds=("text", "reasoning", "tool_call", "refusal"),
    timing=False, start_usage=False, stop_sequence=False, reason_is_told=False,
)  # fmt: skip
TOOLS = [
    {"type": "function", "name": "shell", "description": "d", "strict": False, "parameters": {"type": "object"}},
    {"type": "namespace", "name": "mcp__x", "description": "", "tools": [{"type": "function", "name": "look"}]},
    {"type": "web_search"},
]


def parse(**more: Any) -> ResponsesRequest:
    return parse_request(json.dumps({"model": "m", "input": "x"} | more).encode(), features=ALL_FEATURES)


REQUEST = parse(include=["reasoning.encrypted_content"], instructions="i", tools=TOOLS, reasoning={"effort": "low"})


def test_what_codex_sends_is_read_verbatim_and_in_order() -> None:
    request = parse(
        instructions="be good",
        input=[
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": " rules\n"}]},
            {"role": "user", "content": "bare"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look"}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "namespace": "mcp__x", "arguments": '{"a":  1}'},
            {"type": "function_call_output", "call_id": "c1", "output": [
                {"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": "data:image/png;base64,QQ=="}
            ]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        ],
        tools=TOOLS, tool_choice="auto", parallel_tool_calls=True, reasoning={"summary": "auto"}, store=False,
        include=["reasoning.encrypted_content"], prompt_cache_key="k", client_metadata={"a": "b"}, stream=True,
    )  # fmt: skip

    chat = request.chat
    assert [m.role for m in chat.messages] == ["system", "developer", "user", "assistant", "tool"]
    assert [m.text for m in chat.messages] == ["be good", " rules\n", "bare", "I look", "ok"]
    assert (chat.messages[3].reasoning, chat.messages[3].reasoning_signature) == ("hm", "e")
    assert [(c.name, c.arguments) for c in chat.messages[3].tool_calls] == [("mcp__x__look", '{"a":  1}')]
    assert chat.messages[4].content == (Text("ok"), Image("data:image/png;base64,QQ=="))
    assert [tool.name for tool in chat.tools] == ["shell", "mcp__x__look"]
    assert chat.ignored == ("input[6]:web_search_call", "tools[2]:web_search")
    assert not request.store


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [3]}, "input[0]"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "1"}]}, "input[0].name"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f"}] * 2}, "tools"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_a_wrong_member_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**more)

    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"presence_penalty": 1}, "presence_penalty"),
    ],
)
def test_what_the_server_cannot_do_is_refused_and_never_dropped(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request({"model": "m", "input": "x"} | more)

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_a_conversation_goes_on_from_its_stored_items() -> None:
    first = parse(input="a")
    answer = encode_response([Started("resp_1", "m", 7), PartStarted(0, "text"), TextDelta("b"), PartEnded(0),
                              Finished("stop", Usage(1, 1))], first)  # fmt: skip

    body = {"model": "m", "input": "c", "previous_response_id": "resp_1"}
    request = parse_request(body, history=[*first.input_items, *answer["output"]])

    assert [(m.role, m.text) for m in request.chat.messages] == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert request.previous_response_id == "resp_1" and len(request.input_items) == 1


def test_a_request_survives_encoding_and_parsing() -> None:
    request = parse(
        input=[
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y", "detail": "low"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "e"},
            {"type": "function_call", "call_id": "1", "name": "look", "namespace": "mcp__x", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "o"},
        ],
        tools=TOOLS[:2], tool_choice={"type": "function", "name": "look", "namespace": "mcp__x"}, temperature=1.5,
        top_p=0.5, max_output_tokens=3, reasoning={"effort": "high"}, top_logprobs=2, parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}, stream=True,
    ).chat  # fmt: skip

    encoded = encode_request(request)

    assert request.tool_choice == NamedTool("mcp__x__look")
    again = parse_request(encoded.body, features=ALL_FEATURES).chat
    assert replace(again, tools=()) == replace(request, tools=())
    assert [t.name for t in again.tools] == [t.name for t in request.tools]


@given(streams(CAN), st.lists(st.integers(0, 10**6), max_size=20) | st.integers(1, 3))
def test_decoding_what_was_encoded_gives_the_same_events(events: list[Event], cuts: Any) -> None:
    wire = b"".join(encode(StreamEncoder(REQUEST), events, WireGrammar()))

    assert decode(StreamDecoder(), wire, cuts) == events


@given(streams(CAN), st.data())
def test_a_stream_that_was_cut_anywhere_ends_as_failed(events: list[Event], data: st.DataObject) -> None:
    pieces = encode(StreamEncoder(REQUEST), events, WireGrammar())
    wire = b"".join(pieces)[: -len(pieces[-1])]

    assert isinstance(decode(StreamDecoder(), wire[: data.draw(st.integers(0, len(wire)))], 7)[-1], Failed)


ADAPTER: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@given(streams(CAN))
def test_the_official_client_understands_every_event(events: list[Event]) -> None:
    # of the codes in a failed response it knows only its own server's
    coded = [Failed(replace(e.error, code="server_error")) if isinstance(e, Failed) else e for e in events]
    encoder = StreamEncoder(REQUEST)

    for payload in Parser().feed(b"".join(encoder.encode(e) for e in coded)):
        ADAPTER.validate_json(payload)


@given(streams(CAN, failing=False))
def test_a_plain_answer_says_what_the_stream_said(events: list[Event]) -> None:
    answer = encode_response(events, REQUEST)

    SdkResponse.model_validate_json(json.dumps(answer))
    assert joined(decode_response(json.loads(json.dumps(answer)))) == joined(events)


def test_silence_before_the_first_event_is_filled_without_breaking_the_order() -> None:
    started, grammar = Started("resp_1", "m", 7), WireGrammar()
    encoder = StreamEncoder(REQUEST, started=started)

    wire = encoder.keep_alive() + encoder.keep_alive() + encoder.encode(started)
    wire += encoder.encode(Finished("stop", Usage(1, 1)))

    grammar.feed(wire)
    assert grammar.ended
    assert [json.loads(p)["type"] for p in Parser().feed(wire)] == [
        "response.created",
        "response.in_progress",
        "response.in_progress",
        "response.completed",
    ]
    assert decode(StreamDecoder(), wire, 9) == [started, Finished("stop", Usage(1, 1))]


def test_a_failure_before_there_is_a_response_is_an_error_event() -> None:
    encoder = StreamEncoder(REQUEST, request_id="req_1")
    wire = encoder.keep_alive() + encoder.encode(Failed(ApiError(503, "api_error", "shutting_down", "bye")))

    assert wire == (
        b": keep-alive\n\n"
        b'event: error\ndata: {"type":"error","sequence_number":0,"error_type":"api_error","message":"bye",'
        b'"code":"shutting_down","param":null,"request_id":"req_1"}\n\n'
    )
    ADAPTER.validate_json(Parser().feed(wire)[0])
    failed = decode(StreamDecoder(), wire, 4)[-1]
    assert isinstance(failed, Failed) and (failed.error.type, failed.error.code) == ("api_error", "shutting_down")


def test_the_whole_transcript_is_as_openai_writes_it(golden: Any) -> None:
    events: list[Event] = [
        Started("resp_1", "m", 7),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), ReasoningSignature("c2ln"), PartEnded(0),
        PartStarted(1, "text"), TextDelta("Ich "), TextDelta("schaue ☀"), PartEnded(1),
        PartStarted(2, "tool_call", "call_1", "mcp__x__look"), ToolArgumentsDelta('{"a"'), ToolArgumentsDelta(":1}"),
        PartEnded(2),
        Finished("tool_calls", Usage(12, 9, 4, 2)),
    ]  # fmt: skip
    encoder = StreamEncoder(REQUEST)
    cut = StreamEncoder(REQUEST)
    failed = [*events[:6], Failed(ApiError(502, "api_error", "upstream_read_failed", "broke off"))]

    golden("openai_responses.tools.sse", b"".join(encoder.encode(e) for e in events))
    golden("openai_responses.failed.sse", b"".join(cut.encode(e) for e in failed))
    golden("openai_responses.tools.json", orjson.dumps(encode_response(events, REQUEST), option=orjson.OPT_INDENT_2))


def test_an_upstream_that_sends_only_whole_items_is_understood() -> None:
    response = {"id": "r", "model": "m", "created_at": 7, "status": "in_progress"}
    item = {"type": "message", "content": [{"type": "output_text", "text": "whole"}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    payloads = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.output_item.added", "item": call | {"arguments": ""}},
        {"type": "response.output_item.done", "item": call},
        {"type": "response.completed", "response": response | {"status": "completed"}},
    ]
    wire = b"".join(b"data: " + orjson.dumps(p) + b"\n\n" for p in payloads)

    assert decode(StreamDecoder(), wire, 11)[1:] == [
        PartStarted(0, "text"), TextDelta("whole"), PartEnded(0),
        PartStarted(1, "tool_call", "c", "f"), ToolArgumentsDelta("{}"), PartEnded(1),
        Finished("tool_calls", Usage(0, 0)),
    ]  # fmt: skip


@pytest.mark.parametrize("change", [{"sequence_number": 5}, {"type": "response.completed"}, {"response": {"id": "x"}}])
def test_the_grammar_finds_what_would_confuse_a_client(change: dict[str, Any]) -> None:
    wire = StreamEncoder(REQUEST).encode(Started("resp_1", "m", 7))
    first, second = (json.loads(p) for p in Parser().feed(wire))
    grammar = WireGrammar()
    grammar.check(first)

    with pytest.raises((WireError, KeyError)):
        grammar.check(second | change)


def test_input_items_come_in_pages_in_the_form_of_the_official_client() -> None:
    items = parse(
        input=[
            {"role": "user", "content": "a"},
            {"type": "message", "role": "assistant", "content": "b"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ]
    ).input_items

    first = encode_input_items("resp_1", items, limit=2, order="asc")
    rest = encode_input_items("resp_1", items, limit=2, order="asc", after=first["last_id"])

    assert [item["id"] for item in (*first["data"], *rest["data"])] == ["msg_1_in_0", "msg_1_in_1", "fc_1_in_2"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for page in (first, rest):
        ResponseItemList.model_validate(page)
    assert encode_input_items("resp_1", items)["data"][0]["id"] == "fc_1_in_2"
    with pytest.raises(ApiError, match="after"):
        encode_input_items("resp_1", items, after="x")
    assert encode_deleted("resp_1")["deleted"] is True
