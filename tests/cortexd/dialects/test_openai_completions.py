"""OpenAI's text completions, both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from cortexd.dialects.openai_completions import (
    StreamDecoder,
    StreamEncoder,
    WireGrammar,
    decode_response,
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
    Started,
    TextDelta,
    TokenLogprob,
    Usage,
)
from cortexd.protocol.request import ALL_FEATURES, CompletionRequest
from tests.cortexd.dialects.streams import Can, borderless, decode, encode, joined, streams

CAN = Can(kinds=("text",), choices=3, borders=False, token_bytes=False, start_usage=False)


def parse(**more: Any) -> CompletionRequest:
    return parse_request({"model": "m", "prompt": "x"} | more, features=ALL_FEATURES)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3))), ("", ("",))],
)
def test_prompts_are_text_or_tokens_one_or_many(prompt: Any, read: Any) -> None:
    assert parse(prompt=prompt).prompts == read


def test_a_request_survives_encoding_and_parsing() -> None:
    request = parse(prompt=["a", "b"], n=2, echo=True, logprobs=3, max_tokens=0, stop="z", seed=5, top_k=2, stream=True,
                    stream_options={"include_usage": True}, temperature=0.5, logit_bias={"1": 2})  # fmt: skip

    assert parse_request(encode_request(request).body, features=ALL_FEATURES) == request


def test_without_a_limit_this_apis_own_default_holds() -> None:
    assert parse().sampling.max_tokens == 16


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"n": 100, "prompt": ["a", "b"]}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"stream": 1}, "stream"),
    ],
)
def test_a_wrong_member_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(**more)

    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("more", "param"), [({"n": 2}, "n"), ({"prompt": ["a", "b"]}, "prompt"), ({"logprobs": 1}, "logprobs")]
)
def test_what_the_server_cannot_do_is_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request({"model": "m", "prompt": "x"} | more)

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


@given(streams(CAN), st.lists(st.integers(0, 10**6), max_size=20) | st.integers(1, 3))
def test_decoding_what_was_encoded_gives_the_same_events(events: list[Event], cuts: Any) -> None:
    wire = b"".join(encode(StreamEncoder(include_usage=True), events, WireGrammar()))

    decoded = decode(StreamDecoder(), wire, cuts)
    # a stream that failed before its first text says nothing of its id
    silent = isinstance(events[-1], Failed) and len(events) == 2
    assert decoded == (events[1:] if silent else borderless(events))


@given(streams(CAN), st.data())
def test_a_stream_that_was_cut_anywhere_ends_as_failed(events: list[Event], data: st.DataObject) -> None:
    pieces = encode(StreamEncoder(include_usage=True), events, WireGrammar())
    wire = b"".join(pieces[:-1])

    assert isinstance(decode(StreamDecoder(), wire[: data.draw(st.integers(0, len(wire)))], 7)[-1], Failed)


@given(streams(CAN, failing=False))
def test_the_official_client_understands_stream_and_answer_and_both_say_the_same(events: list[Event]) -> None:
    encoder = StreamEncoder(include_usage=True)
    for payload in Parser().feed(b"".join(encoder.encode(e) for e in events)):
        if payload != b"[DONE]":
            # the official type of a choice has a reason always; its streams have none until the end
            chunk = json.loads(payload)
            for choice in chunk["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
            Completion.model_validate(chunk, strict=True)

    answer = encode_response(events)
    Completion.model_validate_json(json.dumps(answer), strict=True)
    by_choice = sorted(joined(borderless(events))[1:-1], key=lambda e: getattr(e, "choice", 0))
    texts = {e.choice: e.text for e in joined(by_choice) if isinstance(e, TextDelta)}
    decoded = decode_response(json.loads(json.dumps(answer)))
    assert {e.choice: e.text for e in decoded if isinstance(e, TextDelta)} == texts
    assert decoded[-1] == events[-1]


def test_where_each_token_begins_is_told() -> None:
    tokens = (TokenLogprob("Ich", None), TokenLogprob(" bin", -0.5, top=(TokenLogprob(" war", -1.5),)))
    events = [Started("i", "m", 0), PartStarted(0, "text"), TextDelta("Ich bin", logprobs=tokens), PartEnded(0),
              Finished("stop", Usage(1, 1))]  # fmt: skip

    assert encode_response(events)["choices"][0]["logprobs"] == {
        "tokens": ["Ich", " bin"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [{}, {" war": -1.5}],
        "text_offset": [0, 3],
    }


def test_anything_but_text_is_the_makers_mistake() -> None:
    events: list[Event] = [Started("i", "m", 0), PartStarted(0, "reasoning"), ReasoningDelta("x")]

    with pytest.raises(ValueError, match="no place"):
        encode_response(events)


def test_the_whole_transcript_is_as_openai_writes_it(golden: Any) -> None:
    events: list[Event] = [
        Started("cmpl-1", "m", 7),
        PartStarted(0, "text"), TextDelta("Ich "),
        PartStarted(0, "text", choice=1), TextDelta("Du", 1), PartEnded(0, 1),
        TextDelta("bin", logprobs=(TokenLogprob("bin", -0.25),)), PartEnded(0),
        Finished("stop", Usage(12, 9), None, "\n", ("length",)),
    ]  # fmt: skip
    encoder, cut = StreamEncoder(include_usage=True), StreamEncoder(include_usage=False, request_id="req_1")
    failed = [*events[:3], Failed(ApiError(502, "api_error", "upstream_read_failed", "broke off"))]

    golden("openai_completions.text.sse", b"".join(encoder.encode(e) for e in events))
    golden("openai_completions.failed.sse", b"".join(cut.encode(e) for e in failed))


def test_the_grammar_finds_a_choice_that_goes_on_after_its_end() -> None:
    grammar, encoder = WireGrammar(), StreamEncoder(include_usage=False)
    encoder.encode(Started("i", "m", 0))
    said = encoder.encode(TextDelta("x"))
    grammar.feed(said + encoder.encode(Finished("stop", Usage(0, 0))).removesuffix(b"data: [DONE]\n\n"))

    with pytest.raises(WireError):
        grammar.feed(said)


def test_what_openai_does_not_know_is_reported() -> None:
    request = replace(parse(top_k=2), stream=False)

    assert encode_request(request, extensions=False).dropped == ("top_k",)
