"""Streams as other servers write them, with what they leave out and what they add."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from cortexd.dialects import anthropic_messages, openai_chat, openai_responses
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
from tests.cortexd.dialects.streams import decode


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]} | more


def wire(*payloads: Any, named: bool = False) -> bytes:
    names = [b"event: " + str(p.get("type")).encode() + b"\n" if named else b"" for p in payloads]
    return b"".join(n + b"data: " + orjson.dumps(p) + b"\n\n" for n, p in zip(names, payloads, strict=True))


def test_a_chat_server_that_sends_whole_calls_nulls_and_usage_with_the_reason() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": None}
    said = wire(
        chunk({"role": "assistant", "content": None, "tool_calls": None}),
        chunk({"reasoning": "Hm.", "content": None}),
        chunk({"content": "a", "reasoning_content": None}),
        chunk({"tool_calls": [call]}),
        chunk({}, "function_call", usage=usage),
    )

    assert decode(openai_chat.StreamDecoder(), b": OK\n\n" + said + b"data: [DONE]\n\n", 5) == [
        Started("c", "m", 7),
        PartStarted(0, "reasoning"), ReasoningDelta("Hm."), PartEnded(0),
        PartStarted(1, "text"), TextDelta("a"), PartEnded(1),
        PartStarted(2, "tool_call", "c1", "f"), ToolArgumentsDelta('{"a":1}'), PartEnded(2),
        Finished("tool_calls", Usage(3, 4)),
    ]  # fmt: skip


def test_a_chat_server_that_forgets_its_done_has_still_finished() -> None:
    assert decode(openai_chat.StreamDecoder(), wire(chunk({"content": "a"}), chunk({}, "length")), 9)[-1] == (
        Finished("length", Usage(0, 0))
    )


def test_an_error_that_is_only_a_string_is_still_an_error() -> None:
    failed = decode(openai_chat.StreamDecoder(), wire({"error": "out of memory"}), 9)[-1]

    assert isinstance(failed, Failed) and (failed.error.status, failed.error.message) == (502, "out of memory")


def test_anthropics_own_stream_with_redacted_thinking_pings_and_tools_of_its_own() -> None:
    def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    usage = {"input_tokens": 3, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 1}
    said = wire(
        {"type": "message_start", "message": {"id": "m1", "type": "message", "model": "m", "usage": usage}},
        {"type": "ping"},
        *block(0, {"type": "redacted_thinking", "data": "xyz"}),
        *block(1, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
               {"type": "input_json_delta", "partial_json": '{"query":"x"}'}),
        *block(2, {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
        *block(3, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"},
               {"type": "citations_delta", "citation": {}}),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
        named=True,
    )  # fmt: skip

    events = decode(anthropic_messages.StreamDecoder(), said, 11)
    assert events == [
        Started("m1", "m", 0, Usage(9, 1, 4)),
        PartStarted(0, "reasoning"), ReasoningSignature("redacted_thinking:xyz"), PartEnded(0),
        PartStarted(1, "text"), TextDelta("a"), PartEnded(1),
        Finished("stop", Usage(9, 9, 4)),
    ]  # fmt: skip


def test_openais_own_response_with_several_summaries_and_obfuscation() -> None:
    def item(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "item_id": "rs", "output_index": 0, "obfuscation": "x"} | more

    response = {"id": "r", "model": "m", "created_at": 7.0, "status": "completed", "usage": {"input_tokens": 1}}
    said = wire(
        {"type": "response.created", "response": response},
        item("output_item.added", item={"type": "reasoning", "summary": []}),
        item("reasoning_summary_part.added", summary_index=0, part={}),
        item("reasoning_summary_text.delta", summary_index=0, delta="one"),
        item("reasoning_summary_part.added", summary_index=1, part={}),
        item("reasoning_summary_text.delta", summary_index=1, delta="two"),
        item("output_item.done", item={"type": "reasoning", "encrypted_content": "e"}),
        item("web_search_call.searching"),
        {"type": "response.completed", "response": response},
        named=True,
    )

    assert decode(openai_responses.StreamDecoder(), said, 13) == [
        Started("r", "m", 7),
        PartStarted(0, "reasoning"), ReasoningDelta("one"), ReasoningDelta("\n\n"), ReasoningDelta("two"),
        ReasoningSignature("e"), PartEnded(0),
        Finished("stop", Usage(1, 0)),
    ]  # fmt: skip


@pytest.mark.parametrize("module", [openai_chat, openai_responses, anthropic_messages])
def test_an_error_body_instead_of_an_answer_is_that_error(module: Any) -> None:
    events: list[Event] = module.decode_response(
        {"type": "error", "error": {"type": "api_error", "code": "c", "message": "no", "param": None}}
    )

    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.error.message, failed.error.code, failed.error.type) == ("no", "c", "api_error")
