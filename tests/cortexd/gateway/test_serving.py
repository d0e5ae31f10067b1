"""The way of a request through a real gateway: bytes, rows, metrics, aliases, keys."""

from __future__ import annotations

import json
import time

import httpx
import openai

from tests.cortexd.gateway.conftest import MODEL, SECRET, Gateway, Make, chat
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron, completion, stream_events


def test_a_plain_answer_is_the_neurons_bytes_and_its_row_is_there(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    requests = gateway.metric("cortex_requests_total", model=MODEL, node="n1")
    tokens = gateway.metric("cortex_completion_tokens_total", model=MODEL)
    answer = gateway.post(chat(), headers={"User-Agent": "tester", "X-Cortexd-Account": "forged", "Cookie": "a=b"})
    row = gateway.row(answer)

    assert answer.status_code == 200
    assert answer.content == json.dumps(completion(MODEL, neuron.behaviour), indent=1).encode()
    assert answer.headers["x-upstream"] == "yes"
    sent = neuron.seen[0].headers
    assert sent["user-agent"] == "tester" and sent["x-request-id"] == answer.headers["x-request-id"]
    assert "cookie" not in sent and "x-cortexd-account" not in sent and "authorization" not in sent
    assert (row["model"], row["neuron"], row["status"], row["outcome"], row["finish_reason"]) == (
        MODEL,
        "n1",
        200,
        "ok",
        "stop",
    )
    assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (11, 5, 4)
    assert gateway.metric("cortex_requests_total", model=MODEL, node="n1") == requests + 1
    assert gateway.metric("cortex_completion_tokens_total", model=MODEL) == tokens + 5


def test_the_clients_bytes_arrive_unchanged_and_an_alias_changes_only_the_model(
    usual: tuple[Gateway, FakeNeuron],
) -> None:
    gateway, neuron = usual
    own = (
        b'{ "messages":[{"role":"user","content":"\\u00e9 \\"model\\": \\"default\\" "}],\n'
        b' "x": {"model": "default"}, "model" : "%s" , "temperature":1.50}'
    )

    gateway.post(own % MODEL.encode())
    answer = gateway.post(own % b"default")

    assert [s.body for s in neuron.seen] == [own % MODEL.encode()] * 2
    assert gateway.row(answer)["requested_model"] == "default"
    assert neuron.seen[0].port == neuron.seen[1].port, "the connection is kept"


def test_a_stream_arrives_over_time_byte_for_byte_without_the_usage_nobody_asked_for(
    usual: tuple[Gateway, FakeNeuron],
) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(step_s=0.1)
    times, got = [], b""

    with httpx.stream("POST", gateway.base + "/v1/chat/completions", json=chat(stream=True)) as answer:
        for piece in answer.iter_raw():
            times.append(time.monotonic())
            got += piece
            if b"[DONE]" in piece:
                row = gateway.row(answer)  # with the last byte, not after it

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert got == b"".join(stream_events(MODEL, neuron.behaviour, usage=False))
    assert times[-1] - times[0] > 0.4 and len(times) >= 6
    assert (row["prompt_tokens"], row["completion_tokens"], row["finish_reason"], row["streamed"]) == (11, 5, "stop", 1)
    assert 0.05 < row["ttft_s"] < row["duration_s"]
    assert 5 < row["tokens_per_second"] < 15
    assert gateway.metric("cortex_request_duration_seconds_sum", model=MODEL) > 0.5


def test_usage_comes_in_the_stream_for_those_who_ask(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    answer = gateway.post(chat(stream=True, stream_options={"include_usage": True}))

    assert answer.content == b"".join(stream_events(MODEL, neuron.behaviour, usage=True))


def test_a_stream_without_usage_is_counted_by_its_chunks(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(usage=False)

    row = gateway.row(gateway.post(chat(stream=True)))

    assert row["completion_tokens"] == 5


def test_the_openai_sdk_works_both_ways(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    sdk = openai.OpenAI(base_url=gateway.base + "/v1", api_key="placeholder", max_retries=0)
    messages = [{"role": "user", "content": "x"}]

    plain = sdk.chat.completions.create(model="default", messages=messages)  # type: ignore[arg-type]
    stream = sdk.chat.completions.create(model=MODEL, messages=messages, stream=True)  # type: ignore[arg-type]

    assert plain.choices[0].message.content == "one two three four five"
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "one two three four five "
    assert {m.id for m in sdk.models.list()} == {MODEL, "tiny-embed", "default"}
    assert sdk.models.retrieve(MODEL).id == MODEL


def test_the_catalogue_says_where_a_model_is(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    entry = httpx.get(f"{gateway.base}/v1/models/{MODEL}").json()
    missing = httpx.get(f"{gateway.base}/v1/models/org/tinny")

    assert entry == {
        "id": MODEL,
        "object": "model",
        "created": 1700000000,
        "owned_by": "cortexd",
        "task": "chat",
        "loaded": True,
        "feasible_on": ["n1"],
        "locations": [{"node": "n1", "status": "loaded"}],
        "limit": {"context": 4096},
        "max_model_len": 4096,
        # Anthropic's words for it
        "type": "model",
        "display_name": MODEL,
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "max_input_tokens": 4096,
    }
    assert missing.status_code == 404
    assert f"'{MODEL}'" in missing.json()["error"]["message"]


def test_a_key_is_required_where_it_is_configured_and_owns_its_rows(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, require_auth=True)

    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + SECRET}):
        refused = gateway.post(chat(), headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert httpx.get(gateway.base + "/v1/models").status_code == 401
    assert httpx.get(gateway.base + "/health").status_code == 200
    mine = {"Authorization": "Bearer " + SECRET}
    served = gateway.row(gateway.post(chat(), headers=mine))
    refused_row = gateway.row(gateway.post(chat() | {"model": "nope"}, headers=mine))

    assert (served["account"], served["key_id"]) == ("acme", "k1")
    assert (refused_row["status"], refused_row["outcome"], refused_row["model"]) == (404, "error", None)
    assert len(gateway.rows()) == 2
    assert SECRET not in gateway.log + (gateway.state / "state.db").read_bytes().decode("latin-1")


def test_health_ready_and_version_tell_what_they_should(neuron: FakeNeuron, make_gateway: Make) -> None:
    from tests.cortexd.gateway.conftest import healthy, unload

    gateway = make_gateway({"n1": neuron.url})
    ready = httpx.get(gateway.base + "/ready")
    gateway.execute(unload())
    waiting = httpx.get(gateway.base + "/ready")
    gateway.execute(healthy("n1", False))

    assert ready.status_code == 200
    assert (waiting.status_code, waiting.json()["reason"]) == (503, "no pinned model is loaded yet")
    assert httpx.get(gateway.base + "/ready").json()["reason"] == "no neuron is reachable"
    assert httpx.get(gateway.base + "/").json() == {"status": "degraded", "nodes": {"healthy": 0, "total": 1}}
    assert httpx.get(gateway.base + "/version").json()["name"] == "cortexd"
