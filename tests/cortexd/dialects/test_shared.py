"""What the dialects share."""

from __future__ import annotations

import json

import pytest
from anthropic.types import ModelInfo
from hypothesis import given
from openai.types import Model

from cortexd.dialects.finish import TABLE, from_anthropic, from_chat, from_response
from cortexd.dialects.models import listing
from cortexd.dialects.reading import printable, unknown
from cortexd.dialects.sse import Parser
from cortexd.dialects.visible import WithoutReasoning
from cortexd.protocol.events import Event, PartStarted, ReasoningDelta, ReasoningSignature
from cortexd.protocol.grammar import Grammar
from tests.cortexd.dialects.streams import Can, streams


@pytest.mark.parametrize("reason", TABLE)
def test_every_finish_reason_survives_every_dialect(reason: str) -> None:
    words = TABLE[reason]  # type: ignore[index]

    assert from_chat(words.chat) == reason
    assert from_anthropic(words.anthropic) == reason
    assert from_response(words.status, words.incomplete, calls=reason == "tool_calls") == reason


def test_words_of_other_servers_become_the_nearest_of_ours() -> None:
    assert from_chat("function_call") == "tool_calls"
    assert from_anthropic("model_context_window_exceeded") == "length"
    assert from_anthropic("something new") == "stop"


def test_one_list_of_models_serves_both_official_clients() -> None:
    entry = {"id": "a/b", "object": "model", "created": 1790000000, "owned_by": "cortexd", "max_model_len": 9}
    answer = json.loads(json.dumps(listing([entry])))

    Model.model_validate(answer["data"][0])
    told = ModelInfo.model_validate(answer["data"][0])
    assert (told.id, told.display_name, told.created_at.timestamp(), told.max_input_tokens) == (
        "a/b",
        "a/b",
        1790000000,
        9,
    )
    assert (answer["has_more"], answer["first_id"], answer["last_id"]) == (False, "a/b", "a/b")
    assert listing([])["first_id"] is None


@given(streams(Can(kinds=("text", "reasoning", "tool_call", "refusal"), choices=2)))
def test_without_its_reasoning_a_stream_is_still_whole(events: list[Event]) -> None:
    keep, grammar = WithoutReasoning(), Grammar()
    left = [e for e in map(keep.pass_on, events) if e is not None]

    for event in left:
        grammar.check(event)
    assert grammar.ended
    assert not any(isinstance(e, ReasoningDelta | ReasoningSignature) for e in left)
    assert not any(isinstance(e, PartStarted) and e.kind == "reasoning" for e in left)
    kept = [e for e in events if hasattr(e, "text") and not isinstance(e, ReasoningDelta)]
    assert [e for e in left if hasattr(e, "text")] == kept


def test_names_for_a_header_hold_nothing_that_a_header_may_not() -> None:
    assert printable("a\r\nSet-Cookie: x, é") == "a??Set-Cookie:?x???"
    assert len(printable("a" * 1000)) == 64
    assert len(unknown({str(i): 1 for i in range(100)}, ())) == 32


def test_an_event_of_several_data_lines_is_one() -> None:
    parser = Parser()

    assert parser.feed(b"data: a\ndata:b\n\n: c\n\nevent: x\n\ndata: c") == [b"a\nb"]
    assert parser.feed(b"\n\n") == [b"c"]
