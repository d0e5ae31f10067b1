"""The dialects besides chat through a real gateway: official clients, rows, keys, cold loads, and prompts untouched."""

from __future__ import annotations

import json
import threading
from typing import Any

import anthropic
import httpx
import openai
import pytest
from sqlalchemy import update

from cortexd import models as t
from cortexd.dialects import anthropic_messages, openai_completions, openai_responses
from tests.cortexd.gateway.conftest import MODEL, SECRET, Gateway, Make
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron
from tests.cortexd.gateway.test_cold_load import finish
from tests.cortexd.gateway.test_options import SPARE, settings, spare

WORDS = "one two three four five"
PROMPT = 'Grüß\u200b dich,\r\n\t"model": "default" \\u0000 <|im_start|>  ☀ '
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
GRAMMARS = {
    "/v1/messages": anthropic_messages.WireGrammar,
    "/v1/responses": openai_responses.WireGrammar,
    "/v1/completions": openai_completions.WireGrammar,
}
NAMES = {
    "/v1/messages": "anthropic_messages",
    "/v1/responses": "openai_responses",
    "/v1/completions": "openai_completions",
}
ALL = pytest.mark.parametrize("path", GRAMMARS)


def body(path: str, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {
        "/v1/messages": {"messages": [{"role": "user", "content": prompt}], "max_tokens": 9},
        "/v1/responses": {"input": prompt},
        "/v1/completions": {"prompt": prompt},
    }
    return {"model": MODEL} | own[path] | more


def whole(path: str, wire: bytes) -> None:
    """The stream is one that every client of this dialect can read, to its end."""
    grammar = GRAMMARS[path]()
    grammar.feed(wire)
    assert grammar.ended


def claude(gateway: Gateway, **more: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.base, api_key=SECRET, max_retries=0, **more)


def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base + "/v1", api_key="placeholder", max_retries=0)


def test_anthropics_client_gets_a_plain_message_and_its_key_owns_the_row(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    answer = claude(gateway).messages.create(
        model="default", max_tokens=9, messages=[{"role": "user", "content": "x"}], metadata={"user_id": "u"}
    )
    row = gateway.rows("request_id = ?", answer._request_id)[0]

    assert answer.content[0].type == "text" and answer.content[0].text == WORDS
    assert answer.id.startswith("msg_") and answer.model == MODEL and answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (7, 4, 5)
    assert (row["dialect"], row["account"], row["model"], row["requested_model"], row["neuron"]) == (
        "anthropic_messages", "acme", MODEL, "default", "n1",
    )  # fmt: skip
    assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (11, 5, 4)
    assert (row["outcome"], row["finish_reason"], row["status"]) == ("ok", "stop", 200)
    sent = neuron.seen[0]
    assert sent.path == "/v1/chat/completions" and "x-api-key" not in sent.headers


def test_anthropics_client_streams_a_tool_call(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(call=("look", '{"at": "☀"}'))
    with claude(gateway).messages.stream(
        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "x"}], tools=[TOOL],  # type: ignore[list-item]
        tool_choice={"type": "tool", "name": "look"},
    ) as stream:  # fmt: skip
        message = stream.get_final_message()
    plain = claude(gateway).messages.create(
        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "x"}], tools=[TOOL]  # type: ignore[list-item]
    )  # fmt: skip

    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.content[1].input == plain.content[1].input == {"at": "☀"}  # type: ignore[union-attr]
    assert message.stop_reason == plain.stop_reason == "tool_use"
    assert message.usage.output_tokens == 5
    asked = json.loads(neuron.seen[0].body)
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert asked["tools"][0]["function"]["name"] == "look" and asked["max_tokens"] == 9
    assert asked["stream_options"] == {"include_usage": True}


def test_openais_client_gets_responses_both_ways(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(call=("look", "{}"))
    plain = sdk(gateway).responses.create(model="default", input="x", instructions="Be brief.")
    with sdk(gateway).responses.stream(model=MODEL, input=[{"role": "user", "content": "x"}]) as stream:
        streamed = stream.get_final_response()

    assert plain.output_text == WORDS and streamed.output_text == WORDS + " "
    assert [item.type for item in streamed.output] == [item.type for item in plain.output] == [
        "message", "function_call",
    ]  # fmt: skip
    assert plain.id.startswith("resp_") and plain.status == streamed.status == "completed"
    assert plain.usage is not None and streamed.usage is not None
    assert plain.usage.total_tokens == streamed.usage.total_tokens == 16
    assert plain.store is False and plain.model == MODEL
    assert [m["role"] for m in json.loads(neuron.seen[0].body)["messages"]] == ["system", "user"]
    assert gateway.rows("request_id = ?", plain._request_id)[0]["dialect"] == "openai_responses"


def test_openais_client_completes_text_both_ways_without_a_chat_template(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    plain = sdk(gateway).completions.create(model="default", prompt=PROMPT)
    chunks = list(sdk(gateway).completions.create(model=MODEL, prompt=PROMPT, stream=True))

    assert plain.choices[0].text == WORDS and plain.usage is not None and plain.usage.total_tokens == 16
    assert "".join(chunk.choices[0].text for chunk in chunks) == WORDS + " "
    assert all(chunk.usage is None for chunk in chunks), "nobody asked for it"
    assert [s.path for s in neuron.seen] == ["/v1/completions"] * 2
    assert json.loads(neuron.seen[0].body) == {"model": MODEL, "prompt": PROMPT, "max_tokens": 16}


def test_tokens_are_counted_by_the_neuron_on_the_same_prompt_and_nothing_is_billed(
    usual: tuple[Gateway, FakeNeuron],
) -> None:
    gateway, neuron = usual
    asked = body("/v1/messages", system="s", tools=[TOOL], thinking={"type": "adaptive"})
    gateway.post(asked, "/v1/messages")
    del asked["max_tokens"]
    answer = gateway.post(asked, "/v1/messages/count_tokens")
    row = gateway.row(answer)

    assert (answer.status_code, answer.json()) == (200, {"input_tokens": 11})
    message, counted = (json.loads(seen.body) for seen in neuron.seen)
    assert neuron.seen[1].path == "/tokenize" and counted | {"max_tokens": 9} == message
    assert (row["dialect"], row["outcome"], row["prompt_tokens"]) == ("anthropic_count_tokens", "ok", 0)
    for body_of_neuron in (b"{}", b"[]", b'{"count": "x"}', b'{"count": true}', b"<"):
        neuron.behaviour = Behaviour(body=body_of_neuron)
        strange = gateway.post(asked, "/v1/messages/count_tokens")
        assert (strange.status_code, strange.json()["error"]["code"]) == (502, "upstream_malformed_response")


@ALL
def test_prompts_reach_the_neuron_as_they_are(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway, neuron = usual
    more: dict[str, Any] = {}
    if path == "/v1/messages":
        more = {"system": [{"type": "text", "text": " sys\n"}], "messages": [
            {"role": "user", "content": [{"type": "text", "text": PROMPT}, {"type": "text", "text": " b "}]},
            {"role": "system", "content": "in the middle"},
        ]}  # fmt: skip
    answer = gateway.post(body(path, **more), path)
    asked = json.loads(neuron.seen[0].body)

    assert answer.status_code == 200, answer.text
    match path:
        case "/v1/messages":
            parts = [{"type": "text", "text": PROMPT}, {"type": "text", "text": " b "}]
            assert asked["messages"] == [
                {"role": "system", "content": " sys\n"},
                {"role": "user", "content": parts},
                {"role": "system", "content": "in the middle"},
            ]
        case "/v1/responses":
            assert asked["messages"] == [{"role": "user", "content": PROMPT}]
        case _:
            assert asked["prompt"] == PROMPT


@ALL
def test_a_stream_is_metered_and_its_row_is_there_with_the_last_byte(
    usual: tuple[Gateway, FakeNeuron], path: str
) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(step_s=0.05)
    last, wire, row = GRAMMARS[path](), b"", None
    with httpx.stream("POST", gateway.base + path, json=body(path, stream=True)) as answer:
        for piece in answer.iter_raw():
            wire += piece
            last.feed(piece)
            if last.ended and row is None:
                row = gateway.row(answer)

    whole(path, wire)
    assert row is not None and (row["dialect"], row["outcome"], row["streamed"]) == (NAMES[path], "ok", 1)
    assert (row["prompt_tokens"], row["completion_tokens"], row["finish_reason"]) == (11, 5, "stop")
    assert 0 < row["ttft_s"] < row["duration_s"] and 5 < row["tokens_per_second"] < 25
    assert answer.headers["x-cortexd-model"] == MODEL


def test_what_has_no_effect_is_named_in_a_header(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    search = {"type": "web_search_20250305", "name": "web_search"}
    answer = gateway.post(body("/v1/messages", tools=[search], novelty=1), "/v1/messages?beta=true")
    streamed = gateway.post(body("/v1/responses", novelty=1, stream=True), "/v1/responses")

    assert answer.headers["x-cortexd-ignored"] == "novelty, tools[0]:web_search_20250305"
    assert streamed.headers["x-cortexd-ignored"] == "novelty"


def test_both_dialects_read_the_catalogue(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    theirs = claude(gateway)

    assert {m.id for m in theirs.models.list()} == {m.id for m in sdk(gateway).models.list()}
    assert theirs.models.retrieve(MODEL).display_name == MODEL
    with pytest.raises(anthropic.NotFoundError) as refused:
        theirs.models.retrieve("org/tinny")
    assert refused.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_a_key_may_come_in_either_header(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, require_auth=True)
    path = "/v1/messages"
    headers: list[dict[str, str]] = [
        {"X-Api-Key": SECRET}, {"Authorization": "Bearer " + SECRET},
        {"Authorization": "Bearer other", "X-Api-Key": SECRET}, {"X-Api-Key": "other"}, {},
    ]  # fmt: skip
    answers = [gateway.post(body(path), path, headers=each) for each in headers]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401]
    told = answers[-1].json()
    assert (told["type"], told["error"]["type"], told["error"]["code"]) == (
        "error", "authentication_error", "invalid_api_key",
    )  # fmt: skip
    assert told["request_id"] == answers[-1].headers["request-id"] == answers[-1].headers["x-request-id"]
    assert SECRET not in neuron.seen[0].headers.values()


def test_what_the_fleet_says_of_keys_limits_and_fallbacks_holds_in_every_dialect(
    neuron: FakeNeuron, make_gateway: Make
) -> None:
    gateway = make_gateway({"n1": neuron.url})
    gateway.execute(*spare("n1"), settings(MODEL, fallback=[SPARE], limits={"output": 20}))
    limits = {"/v1/messages": "max_tokens", "/v1/responses": "max_output_tokens", "/v1/completions": "max_tokens"}
    for path, member in limits.items():
        long = gateway.post(body(path) | {member: 21}, path)
        assert (long.status_code, long.json()["error"]["param"]) == (400, member)
    neuron.behaviour = Behaviour(status=500)
    for path in limits:
        neuron.seen.clear()
        assert gateway.post(body(path), path).status_code == 500
        assert [json.loads(seen.body)["model"] for seen in neuron.seen] == [MODEL, SPARE]

    gateway.execute(update(t.Key).values(settings={"models": [SPARE]}))
    refused = gateway.post(body("/v1/messages"), "/v1/messages", headers={"X-Api-Key": SECRET})
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    listed = httpx.get(gateway.base + "/v1/models", headers={"X-Api-Key": SECRET}).json()
    assert [model["id"] for model in listed["data"]] == [SPARE]


def test_a_client_may_look_whether_anybody_is_there(usual: tuple[Gateway, FakeNeuron]) -> None:
    assert httpx.head(usual[0].base + "/").status_code == 200


SIGNS = {"/v1/messages": "event: ping\n", "/v1/responses": "event: response.in_progress\n", "/v1/completions": ": keep"}


@ALL
def test_a_stream_shows_signs_of_life_of_its_dialect_through_a_cold_load(
    neuron: FakeNeuron, make_gateway: Make, path: str
) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False)
    worker = threading.Thread(target=finish, args=(gateway, "loaded", "n1"))
    worker.start()
    answer = gateway.post(body(path, stream=True), path)
    worker.join()

    assert answer.status_code == 200 and answer.text.count(SIGNS[path]) >= 2
    whole(path, answer.content)
    assert "five" in answer.text
    assert gateway.row(answer)["cold_start"] == 1


@ALL
def test_a_neuron_that_only_comments_keeps_the_client_informed(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(comments=12, step_s=0.1)
    answer = gateway.post(body(path, stream=True), path)

    assert answer.text.count(SIGNS[path]) >= 3
    whole(path, answer.content)


def test_a_load_that_fails_under_way_ends_each_stream_in_its_own_words(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False, cold_load_wait_s=0.7)
    for path in GRAMMARS:
        streamed = gateway.post(body(path, stream=True), path)
        plain = gateway.post(body(path), path)

        assert (streamed.status_code, plain.status_code, plain.headers["retry-after"]) == (200, 503, "30")
        assert "is not loaded after" in streamed.text and "is not loaded after" in plain.json()["error"]["message"]
        whole(path, streamed.content)
