"""The dialects besides chat on a whole fleet: official clients, the real neuron, and the same tokens everywhere."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import anthropic
import httpx
import jsonschema
import openai
import pytest

from cortexd.dialects import anthropic_messages, openai_responses
from tests.e2e.conftest import Fleet

MODEL = "tiny-chat"
SYSTEM = "Be brief."
ASKED = "What is a neuron?"
# the client of Anthropic has no argument for it any more
GREEDY = {"temperature": 0}


def row(fleet: Fleet, request_id: str | None) -> dict[str, Any]:
    with sqlite3.connect(f"file:{fleet.database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM usage WHERE request_id = ?", (request_id,)).fetchall()
    assert len(found) == 1
    return dict(found[0])


@pytest.fixture(scope="module")
def claude(fleet: Fleet) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=fleet.base, api_key="none-needed", max_retries=0)


@pytest.fixture(scope="module")
def sdk(fleet: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=fleet.base + "/v1", api_key="none-needed", max_retries=0)


def test_three_dialects_say_the_same_plain_and_streamed_with_the_same_count_of_tokens(
    fleet: Fleet, claude: anthropic.Anthropic, sdk: openai.OpenAI
) -> None:
    chat = sdk.chat.completions.create(
        model=MODEL, max_tokens=40, temperature=0,
        messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASKED}],
    )  # fmt: skip
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 40, "system": SYSTEM, "extra_body": GREEDY,
                             "messages": [{"role": "user", "content": ASKED}]}  # fmt: skip
    message = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    told: dict[str, Any] = {"model": MODEL, "max_output_tokens": 40, "temperature": 0, "instructions": SYSTEM,
                            "input": ASKED}  # fmt: skip
    response = sdk.responses.create(**told)
    with sdk.responses.stream(**told) as events:
        followed = events.get_final_response()

    text = chat.choices[0].message.content
    assert text and chat.usage is not None
    assert [message.content[0].text, streamed.content[0].text] == [text, text]  # type: ignore[union-attr]
    assert [response.output_text, followed.output_text] == [text, text]
    counted = (chat.usage.prompt_tokens, chat.usage.completion_tokens)
    for usage in (message.usage, streamed.usage):
        assert (usage.input_tokens + (usage.cache_read_input_tokens or 0), usage.output_tokens) == counted
    for total in (response.usage, followed.usage):
        assert total is not None and (total.input_tokens, total.output_tokens) == counted
    ids = (message._request_id, response._request_id)
    assert [row(fleet, i)["dialect"] for i in ids] == ["anthropic_messages", "openai_responses"]
    assert [(row(fleet, i)["prompt_tokens"], row(fleet, i)["completion_tokens"]) for i in ids] == [counted] * 2


def test_why_an_answer_ended_is_said_in_each_dialects_word(claude: anthropic.Anthropic, sdk: openai.OpenAI) -> None:
    message = claude.messages.create(
        model="default", max_tokens=2, messages=[{"role": "user", "content": ASKED}], extra_body=GREEDY
    )
    response = sdk.responses.create(model="default", max_output_tokens=2, input=ASKED, temperature=0)

    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 2
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("path", "grammar", "body", "sign"),
    [
        ("/v1/messages", anthropic_messages.WireGrammar,
         {"max_tokens": 5, "messages": [{"role": "user", "content": "long " * 20_000}]}, "event: ping"),
        ("/v1/responses", openai_responses.WireGrammar,
         {"max_output_tokens": 5, "input": "long " * 20_000}, "event: response.in_progress"),
    ],
)  # fmt: skip
def test_a_long_prompt_shows_signs_of_life_of_the_dialect(
    fleet: Fleet, path: str, grammar: type[Any], body: dict[str, Any], sign: str
) -> None:
    answer = httpx.post(fleet.base + path, json=body | {"model": MODEL, "stream": True}, timeout=120)

    check = grammar()
    check.feed(answer.content)
    assert check.ended
    taken = row(fleet, answer.headers["x-request-id"])
    assert taken["outcome"] == "ok"
    assert answer.text.count(sign) >= int(taken["ttft_s"] / 2), taken["ttft_s"]


def test_a_prompt_beyond_the_context_is_refused_in_anthropics_shape(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(
            model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "x y z 1 2 3 " * 60_000}]
        )

    error = refused.value.body["error"]  # type: ignore[index]
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")


def test_tools_and_their_results_are_taken(claude: anthropic.Anthropic, sdk: openai.OpenAI) -> None:
    look: Any = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
    turns: Any = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a tree"}]},
    ]
    message = claude.messages.create(
        model=MODEL, max_tokens=9, messages=turns, tools=[look], thinking={"type": "adaptive"}
    )
    items: Any = [
        {"role": "user", "content": "look"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a tree"},
    ]
    tool: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
    response = sdk.responses.create(model=MODEL, max_output_tokens=9, input=items, tools=[tool], tool_choice="auto")

    assert message.usage.output_tokens > 0
    assert response.usage is not None and response.usage.output_tokens > 0


def test_embeddings_come_from_a_model_that_is_loaded_for_them(fleet: Fleet, sdk: openai.OpenAI) -> None:
    texts = ["What is a neuron?", "what is a neuron", "Count to 10"]
    raw = sdk.embeddings.with_raw_response.create(model="tiny-embed", input=texts)
    answer = raw.parse()
    single = sdk.embeddings.create(model="tiny-embed", input=texts[0], encoding_format="float")
    found = row(fleet, raw.headers["x-request-id"])

    a, b, c = (e.embedding for e in answer.data)
    near, far = (sum(x * y for x, y in zip(a, other, strict=True)) for other in (b, c))
    assert near > far and single.data[0].embedding == pytest.approx(a, abs=1e-7)
    assert (found["dialect"], found["prompt_tokens"]) == ("openai_embeddings", answer.usage.prompt_tokens)
    assert (found["cold_start"], found["outcome"], found["completion_tokens"]) == (1, "ok", 0)


def test_choices_and_logprobs_reach_every_client(sdk: openai.OpenAI) -> None:
    chat = sdk.chat.completions.create(
        model=MODEL, max_tokens=12, n=2, seed=1, temperature=1.2, logprobs=True, top_logprobs=2,
        messages=[{"role": "user", "content": ASKED}],
    )  # fmt: skip
    prompt = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    text = sdk.completions.create(model=MODEL, prompt=prompt, max_tokens=8, temperature=0, logprobs=1)

    assert len(chat.choices) == 2
    for choice in chat.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert "".join(t.token for t in choice.logprobs.content) == choice.message.content
    assert text.choices[0].logprobs is not None and text.choices[0].text


FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}


def test_the_form_of_a_response_and_its_forced_call_hold(sdk: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "it", "schema": FORM, "strict": True}}
    tool: Any = {"type": "function", "name": "look", "parameters": FORM, "strict": True}
    wild: dict[str, Any] = {"model": MODEL, "max_output_tokens": 60, "input": ASKED, "temperature": 1}
    told = sdk.responses.create(text=form, **wild)
    with sdk.responses.stream(tools=[tool], tool_choice={"type": "function", "name": "look"}, **wild) as events:
        called = events.get_final_response()
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(text={"format": form["format"] | {"schema": {"type": "frob"}}}, **wild)

    jsonschema.validate(json.loads(told.output_text), FORM)
    [call] = [item for item in called.output if item.type == "function_call"]
    jsonschema.validate(json.loads(call.arguments), FORM)
    assert call.name == "look"
    assert refused.value.code == "invalid_schema" and "schema" in (refused.value.param or "")


def test_a_tool_that_a_message_must_use_is_used_with_valid_input(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "max_tokens": 80, "messages": [{"role": "user", "content": ASKED}],
        "tools": [{"name": name, "input_schema": FORM} for name in ("look", "hear")],
    }  # fmt: skip
    named = claude.messages.create(tool_choice={"type": "tool", "name": "hear"}, **asked)
    with claude.messages.stream(tool_choice={"type": "any", "disable_parallel_tool_use": True}, **asked) as stream:
        either = stream.get_final_message()
    with pytest.raises(anthropic.BadRequestError, match=r"input_schema|parameters"):
        broken = {"name": "look", "input_schema": {"type": "object", "properties": {"a": {"type": "frob"}}}}
        claude.messages.create(tool_choice={"type": "any"}, **asked | {"tools": [broken]})

    for message in (named, either):
        assert message.stop_reason == "tool_use"
        [use] = [block for block in message.content if block.type == "tool_use"]
        jsonschema.validate(use.input, FORM)
    assert [b.name for b in named.content if b.type == "tool_use"] == ["hear"]
