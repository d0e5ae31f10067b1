"""All nine ways: what an upstream of one dialect says reaches a client of another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortexd.dialects import anthropic_messages, openai_chat, openai_responses
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
from cortexd.protocol.request import (
    ALL_FEATURES,
    ChatRequest,
    Image,
    Message,
    NamedTool,
    Sampling,
    Text,
    Tool,
    ToolCall,
)
from tests.cortexd.dialects.streams import Can, borderless, decode, encode, joined, streams

RESPONSES = openai_responses.parse_request({"model": "m", "input": "x", "include": ["reasoning.encrypted_content"]})


@dataclass(frozen=True)
class Wire:
    """One dialect with its settings filled in."""

    name: str

    def encoder(self) -> Any:
        match self.name:
            case "chat":
                return openai_chat.StreamEncoder(include_usage=True)
            case "responses":
                return openai_responses.StreamEncoder(RESPONSES)
            case _:
                return anthropic_messages.StreamEncoder()

    @property
    def module(self) -> Any:
        return {"chat": openai_chat, "responses": openai_responses, "messages": anthropic_messages}[self.name]

    def plain(self, events: list[Event]) -> Any:
        more = (RESPONSES,) if self.name == "responses" else ()
        return json.loads(json.dumps(self.module.encode_response(events, *more)))

    def parse(self, body: Any) -> ChatRequest:
        parsed = self.module.parse_request(json.dumps(body).encode(), features=ALL_FEATURES)
        return parsed.chat if self.name == "responses" else parsed


WIRES = [Wire(name) for name in ("chat", "responses", "messages")]
every_pair = [pytest.param(a, b, id=f"{a.name}-to-{b.name}") for a in WIRES for b in WIRES]

# What all three have words for.
CAN = Can(borders=False, logprobs=False, timing=False, created=False, start_usage=False, stop_sequence=False,
          reason_is_told=False)  # fmt: skip


def through(wire: Wire, events: list[Event], cuts: int) -> list[Event]:
    pieces = encode(wire.encoder(), events, wire.module.WireGrammar())
    return decode(wire.module.StreamDecoder(), b"".join(pieces), cuts)


@pytest.mark.parametrize(("upstream", "client"), every_pair)
@given(events=streams(CAN), cuts=st.integers(1, 50))
def test_a_stream_says_the_same_in_both(upstream: Wire, client: Wire, events: list[Event], cuts: int) -> None:
    arrived = through(client, through(upstream, events, cuts), cuts)

    assert borderless(arrived) == borderless(events)


@pytest.mark.parametrize(("upstream", "client"), every_pair)
def test_a_plain_answer_says_the_same_in_both(upstream: Wire, client: Wire) -> None:
    events: list[Event] = [
        Started("id-1", "m", 0),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), ReasoningSignature("c2ln"), PartEnded(0),
        PartStarted(1, "text"), TextDelta("Ich schaue"), PartEnded(1),
        PartStarted(2, "tool_call", "call_1", "look"), ToolArgumentsDelta('{"a":1}'), PartEnded(2),
        PartStarted(3, "tool_call", "call_2", "look"), ToolArgumentsDelta('{"a":2}'), PartEnded(3),
        Finished("tool_calls", Usage(12, 9, 4, 2)),
    ]  # fmt: skip

    answer = client.plain(upstream.module.decode_response(upstream.plain(events)))

    assert joined(client.module.decode_response(answer)) == events


@pytest.mark.parametrize(("upstream", "client"), every_pair)
def test_a_failure_in_the_middle_reaches_the_client_as_its_own_error(upstream: Wire, client: Wire) -> None:
    error = ApiError(502, "api_error", "shutting_down", "bye", extras={"more": 1})
    events: list[Event] = [
        Started("id-1", "m", 0),
        PartStarted(0, "text"),
        TextDelta("Ich"),
        PartEnded(0),
        Failed(error),
    ]

    assert through(client, through(upstream, events, 5), 3) == events


@pytest.mark.parametrize(("upstream", "client"), every_pair)
def test_wherever_the_upstream_is_cut_the_client_gets_a_whole_stream_that_says_so(upstream: Wire, client: Wire) -> None:
    events: list[Event] = [
        Started("id-1", "m", 0),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), PartEnded(0),
        PartStarted(1, "text"), TextDelta("Ich ☀"), PartEnded(1),
        PartStarted(2, "tool_call", "call_1", "look"), ToolArgumentsDelta('{"a":1}'), PartEnded(2),
    ]  # fmt: skip
    encoder = upstream.encoder()
    wire = b"".join(encoder.encode(e) for e in events)

    for cut in range(len(wire)):
        decoder = upstream.module.StreamDecoder()
        arrived = [*decoder.feed(wire[:cut]), *decoder.close()]
        assert isinstance(arrived[-1], Failed)
        encode(client.encoder(), arrived, client.module.WireGrammar())


CONVERSATION = (
    Message("system", (Text("be\ngood"),)),
    Message("user", (Text("look "), Image("data:image/png;base64,QUJD"))),
    Message("assistant", (Text("I look"),), (ToolCall("c1", "look", '{"a":1}'), ToolCall("c2", "look", '{"a":2}')),
            reasoning="Hm.", reasoning_signature="c2ln"),
    Message("tool", (Text("one"),), tool_call_id="c1"),
    Message("tool", (Text("two"),), tool_call_id="c2"),
    Message("system", (Text("in the middle"),)),
    Message("user", (Text("go on"),)),
)  # fmt: skip


@pytest.mark.parametrize(("client", "upstream"), every_pair)
def test_a_request_of_one_dialect_reaches_an_upstream_of_another_verbatim(client: Wire, upstream: Wire) -> None:
    tools = (Tool("look", "d", {"type": "object"}, False),)
    asked = ChatRequest(
        "m", CONVERSATION, tools, Sampling(0.5, 0.25, max_tokens=5), stream=True, tool_choice=NamedTool("look"),
        parallel_tool_calls=False, effort="low",
    )  # fmt: skip

    read = client.parse(client.module.encode_request(asked).body)
    arrived = upstream.parse(upstream.module.encode_request(read).body)

    assert [flat(m) for m in arrived.messages] == [flat(m) for m in CONVERSATION]
    assert arrived.tools == tools
    assert (arrived.tool_choice, arrived.parallel_tool_calls) == (NamedTool("look"), False)
    assert (arrived.sampling, arrived.effort, arrived.stream) == (asked.sampling, "low", True)


def flat(message: Message) -> Any:
    images = [part.url for part in message.content if isinstance(part, Image)]
    said = (message.reasoning, message.reasoning_signature, message.tool_calls, message.tool_call_id)
    return (message.role, message.text, images, *said)
