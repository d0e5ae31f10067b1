"""Embeddings on their way through the gateway: the client's bytes, the neuron's, and the row."""

from __future__ import annotations

import json

import httpx
from sqlalchemy import insert

from cortexd import models as t
from tests.cortexd.gateway.conftest import MODEL, SECRET, Make
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron

ANSWER = json.dumps(
    {
        "object": "list", "model": "tiny-embed", "data": [{"object": "embedding", "index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    },
    indent=1,
).encode()  # fmt: skip


def test_bytes_pass_both_ways_and_the_row_has_the_prompt(make_gateway: Make, neuron: FakeNeuron) -> None:
    neuron.behaviour = Behaviour(body=ANSWER)
    gateway = make_gateway({"n1": neuron.url}, start=False)
    gateway.start()
    gateway.execute(
        insert(t.Resident).values(
            neuron="n1", model="tiny-embed", state="loaded", in_flight=0, queue_depth=0, since=1.0, error=None
        ),
        insert(t.Alias).values(generation="g" * 64, name="vectors", model="tiny-embed"),
    )
    url, raw = gateway.base + "/v1/embeddings", b'{ "input":["\\u00e9"], "stream": true, "model" : "%s" }'

    answer = httpx.post(url, content=raw % b"tiny-embed", headers={"Authorization": f"Bearer {SECRET}"})
    row = gateway.row(answer)
    wrong = httpx.post(url, json={"model": MODEL, "input": "x"})
    chat = gateway.post({"model": "tiny-embed", "messages": []})
    neuron.behaviour = Behaviour(body=b'{"object": "list"}')
    malformed = httpx.post(url, content=raw % b"tiny-embed")

    assert (answer.status_code, answer.content, neuron.seen[0].path) == (200, ANSWER, "/v1/embeddings")
    assert neuron.seen[0].body == raw % b"tiny-embed"
    assert (row["dialect"], row["model"], row["account"]) == ("openai_embeddings", "tiny-embed", "acme")
    assert (row["prompt_tokens"], row["completion_tokens"], row["outcome"], row["streamed"]) == (7, 0, "ok", 0)
    for refused in (wrong, chat):
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "wrong_modality")
    assert (malformed.status_code, malformed.json()["error"]["code"]) == (502, "upstream_malformed_response")
    assert gateway.row(malformed)["outcome"] == "error"
