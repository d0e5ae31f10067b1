"""Embeddings over HTTP: `neuron serve` with the tiny encoder, a chat model beside it."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

from tests.neuron.http.test_neuron import TOKEN, client, configure, free_port, start, state, wait

MODELS = """
[[models]]
id = "vectors"
task = "embed"
artifact = "builtin:tiny-embed"
devices = ["cpu-0"]
pinned = true
limit = { input = 200 }
[[models]]
id = "org/tiny"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 4096
pinned = true
"""
TEXTS = ["How do I load a model?", "Count to 10", "x", "Which hosts are there? " * 8, "Count to 10"]


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


def embed(neuron: httpx.Client, **body: object) -> httpx.Response:
    return neuron.post("/v1/embeddings", json={"model": "vectors"} | body)


def vectors(answer: httpx.Response) -> list[list[float]]:
    assert answer.status_code == 200, answer.text
    return [entry["embedding"] for entry in answer.json()["data"]]


def test_a_text_has_the_same_vector_alone_in_a_list_and_as_tokens(neuron: httpx.Client) -> None:
    many = embed(neuron, input=TEXTS)
    alone = [vectors(embed(neuron, input=text))[0] for text in TEXTS]

    assert vectors(many) == alone
    assert [entry["index"] for entry in many.json()["data"]] == list(range(len(TEXTS)))
    assert vectors(embed(neuron, input=[3629, 3785])) == vectors(embed(neuron, input="hello world"))
    assert vectors(embed(neuron, input=[[3629, 3785], [5]])) == [
        vectors(embed(neuron, input=t))[0] for t in ([3629, 3785], [5])
    ]


def test_usage_and_the_neurons_own_book_agree(neuron: httpx.Client) -> None:
    before = state(neuron, "vectors")
    usage = embed(neuron, input=TEXTS).json()["usage"]
    after = state(neuron, "vectors")

    assert usage["prompt_tokens"] == usage["total_tokens"] > len(TEXTS)
    assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == usage["prompt_tokens"]
    assert after["requests_total"] - before["requests_total"] == 1
    assert (after["in_flight"], after["queue_depth"], after["completion_tokens_total"]) == (0, 0, 0)


def test_base64_and_fewer_dimensions_are_the_same_numbers(neuron: httpx.Client) -> None:
    whole = np.array(vectors(embed(neuron, input=TEXTS)))
    cut = np.array(vectors(embed(neuron, input=TEXTS, dimensions=32)))
    packed = [
        np.frombuffer(base64.b64decode(e["embedding"]), "<f4")
        for e in embed(neuron, input=TEXTS, encoding_format="base64").json()["data"]
    ]

    assert whole.shape == (5, 128) and np.array_equal(np.array(packed), whole.astype(np.float32))
    expected = whole[:, :32] / np.linalg.norm(whole[:, :32], axis=1, keepdims=True)
    assert np.allclose(cut, expected, atol=1e-6) and np.allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)


def test_the_openai_sdk_reads_them(neuron: httpx.Client) -> None:
    sdk = openai.OpenAI(base_url=f"{neuron.base_url}/v1", api_key=TOKEN, max_retries=0)
    # without encoding_format the SDK asks for base64 and unpacks it
    answer = sdk.embeddings.create(model="vectors", input=TEXTS, dimensions=64)
    plain = sdk.embeddings.create(model="vectors", input=TEXTS, dimensions=64, encoding_format="float")

    assert [len(e.embedding) for e in answer.data] == [64] * len(TEXTS)
    assert np.allclose([e.embedding for e in answer.data], [e.embedding for e in plain.data], atol=1e-7)
    assert answer.usage.prompt_tokens == plain.usage.prompt_tokens


def test_many_at_once_beside_a_chat_all_get_their_own(neuron: httpx.Client) -> None:
    alone = vectors(embed(neuron, input=TEXTS))
    chat = {"model": "org/tiny", "messages": [{"role": "user", "content": "say hi"}], "max_tokens": 20}

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=neuron.base_url, headers=neuron.headers, timeout=60) as http:
            texts = (http.post("/v1/embeddings", json={"model": "vectors", "input": TEXTS[i % 5]}) for i in range(20))
            return await asyncio.gather(http.post("/v1/chat/completions", json=chat), *texts)

    said, *answers = asyncio.run(all_at_once())
    assert said.json()["choices"][0]["message"]["content"]
    assert [vectors(a)[0] for a in answers] == [alone[i % 5] for i in range(20)]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": "word " * 400}, "context_length_exceeded", "input"),
        ({"input": ["a", "word " * 400]}, "context_length_exceeded", "input[1]"),
        ({"input": [[1, 5000]]}, "invalid_value", "input"),
        ({"input": "a", "dimensions": 129}, "invalid_value", "dimensions"),
        ({"input": "a", "model": "org/tiny"}, "wrong_modality", "model"),
        ({"input": []}, "invalid_type", "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_its_place(
    neuron: httpx.Client, body: dict[str, object], code: str, param: str
) -> None:
    answer = embed(neuron, **body)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)


def test_a_model_of_vectors_does_not_chat(neuron: httpx.Client) -> None:
    body = {"model": "vectors", "messages": [{"role": "user", "content": "hi"}]}
    answer = neuron.post("/v1/chat/completions", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_modality")
