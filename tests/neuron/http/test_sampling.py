"""What a request can ask of sampling, over HTTP: choices, logprobs, bias, stop tokens, text completions."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.neuron.http.test_neuron import TOKEN, client, configure, free_port, start, state, wait

MODELS = """
[[models]]
id = "org/tiny"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 4096
max_sequences = 4
pinned = true
"""


@pytest.fixture(scope="module")
def neuron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("neuron"), free_port()
    process = start(configure(folder, port, MODELS))
    with client(port) as http:
        try:
            wait(http, process)
            yield http
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()
            assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def sdk(neuron: httpx.Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{neuron.base_url}/v1", api_key=TOKEN, max_retries=0)


def ask(neuron: httpx.Client, content: str = "say hi", **more: Any) -> dict[str, Any]:
    body = {"model": "org/tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 30, **more}
    answer = neuron.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def said(answer: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def test_choices_are_what_their_seeds_give_alone_and_the_books_agree(neuron: httpx.Client) -> None:
    wild = {"temperature": 2.0, "top_p": 1.0, "top_k": 0}
    alone = [ask(neuron, "qz wx 7", seed=5 + i, **wild) for i in range(3)]
    before = state(neuron, "org/tiny")
    many = ask(neuron, "qz wx 7", seed=5, n=3, **wild)
    after = state(neuron, "org/tiny")

    assert said(many) == [said(a)[0] for a in alone] and len(set(said(many))) > 1
    assert [c["index"] for c in many["choices"]] == [0, 1, 2]
    usage = many["usage"]
    assert usage["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]
    assert usage["completion_tokens"] == sum(a["usage"]["completion_tokens"] for a in alone)
    for ours, theirs in (("requests", 1), ("prompt_tokens", None), ("completion_tokens", None)):
        assert after[f"{ours}_total"] - before[f"{ours}_total"] == (theirs or usage[ours])


def test_a_stream_of_choices_says_what_the_plain_answer_says(neuron: httpx.Client, sdk: openai.OpenAI) -> None:
    plain = ask(neuron, n=2, seed=3, temperature=1.5, logprobs=True)
    texts: dict[int, str] = {0: "", 1: ""}
    tokens: dict[int, list[str]] = {0: [], 1: []}
    reasons: dict[int, str] = {}
    for chunk in sdk.chat.completions.create(
        model="org/tiny", messages=[{"role": "user", "content": "say hi"}], max_tokens=30, n=2, seed=3, temperature=1.5,
        logprobs=True, stream=True,
    ):  # fmt: skip
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs and choice.logprobs.content:
                tokens[choice.index] += [t.token for t in choice.logprobs.content]
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason

    assert [texts[0], texts[1]] == said(plain)
    assert [reasons[0], reasons[1]] == [c["finish_reason"] for c in plain["choices"]]
    for i in (0, 1):
        assert tokens[i] == [t["token"] for t in plain["choices"][i]["logprobs"]["content"]]


def test_logprobs_are_sorted_probabilities_of_the_text(neuron: httpx.Client) -> None:
    choice = ask(neuron, temperature=0, logprobs=True, top_logprobs=5)["choices"][0]

    told = choice["logprobs"]["content"]
    assert b"".join(bytes(t["bytes"]) for t in told).decode() == choice["message"]["content"]
    for token in told:
        values = [t["logprob"] for t in token["top_logprobs"]]
        assert len(values) == 5 and values == sorted(values, reverse=True)
        assert token["logprob"] == values[0] <= 0 and sum(map(math.exp, values)) <= 1 + 1e-6


def test_a_bias_a_penalty_and_a_stop_token_change_the_answer(neuron: httpx.Client) -> None:
    whole = ask(neuron, "Count to 10", temperature=0, logprobs=True, max_tokens=60)
    text = said(whole)[0]
    first = neuron.post("/v1/embeddings", json={"model": "org/tiny", "input": "x"})
    assert first.status_code == 400
    biased = said(ask(neuron, "Count to 10", temperature=0, logit_bias={"3629": 100}, max_tokens=3))[0]
    penalised = said(ask(neuron, "Count to 10", temperature=0, frequency_penalty=2, max_tokens=60))[0]
    neutral = said(ask(neuron, "Count to 10", temperature=0, frequency_penalty=0, repetition_penalty=1, max_tokens=60))

    assert biased == "hellohellohello"
    assert penalised != text and neutral == [text]
    assert said(ask(neuron, "Count to 10", temperature=1.9, min_p=1, seed=1, max_tokens=60))[0] == text


def test_a_stop_token_ends_the_answer_before_itself(neuron: httpx.Client) -> None:
    stopped = ask(neuron, temperature=0, logit_bias={"3629": 100}, stop_token_ids=[3629])
    counted = stopped["usage"]["completion_tokens"]

    assert (said(stopped), stopped["choices"][0]["finish_reason"], counted) == ([""], "stop", 1)


def test_a_stop_string_is_told(neuron: httpx.Client) -> None:
    choice = ask(neuron, "Count to 10", temperature=0, stop=["zzz", "3,"], max_tokens=60, logprobs=True)["choices"][0]

    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "3,")
    shown = "".join(t["token"] for t in choice["logprobs"]["content"])
    assert shown.startswith(choice["message"]["content"]) and "3," not in shown


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"logit_bias": {"4096": 1}}, "logit_bias"),
        ({"n": 100}, "n"),
        ({"min_p": 2}, "min_p"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids"),
        ({"response_format": {"type": "xml"}}, "response_format"),
    ],
)
def test_what_cannot_be_is_refused_by_name(neuron: httpx.Client, more: dict[str, Any], param: str) -> None:
    body = {"model": "org/tiny", "messages": [{"role": "user", "content": "x"}], **more}
    answer = neuron.post("/v1/chat/completions", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_text_completions_continue_the_prompt_itself(neuron: httpx.Client, sdk: openai.OpenAI) -> None:
    prompt = "<|im_start|>user\nsay hi<|im_end|>\n<|im_start|>assistant\n"
    chat = said(ask(neuron, temperature=0))[0]
    one = sdk.completions.create(model="org/tiny", prompt=prompt, max_tokens=30, temperature=0)
    two = sdk.completions.create(
        model="org/tiny", prompt=[prompt, "The neuron"], max_tokens=30, temperature=0, echo=True
    )
    streamed = sdk.completions.create(
        model="org/tiny", prompt=prompt, max_tokens=30, temperature=0, logprobs=2, stream=True
    )
    chunks = list(streamed)

    assert one.choices[0].text == chat
    assert two.choices[0].text == prompt + chat and two.choices[1].text.startswith("The neuron")
    assert "".join(c.choices[0].text for c in chunks if c.choices) == chat
    assert any(c.choices and c.choices[0].logprobs for c in chunks)
    assert one.usage is not None and one.usage.completion_tokens > 1


def test_a_second_turn_reuses_the_first_and_says_what_a_cold_one_says(neuron: httpx.Client) -> None:
    asked = {"role": "user", "content": "Tell me about hosts, neurons and models. " * 12}
    first = ask(neuron, asked["content"], temperature=0)
    turns = [asked, {"role": "assistant", "content": said(first)[0]}, {"role": "user", "content": "say hi"}]
    second = ask(neuron, "", temperature=0, messages=turns)
    again = ask(neuron, "", temperature=0, messages=turns)
    health = state(neuron, "org/tiny")

    usage = second["usage"]
    assert first["usage"]["prompt_tokens"] - 20 < usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert said(again) == said(second)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
    assert 0 < health["cached_tokens_total"] < health["prompt_tokens_total"]
    assert 'neuron_cached_prompt_tokens_total{device="cpu-0",model="org/tiny"}' in neuron.get("/metrics").text
