"""What breaks, in the dialects besides chat: refusals before a stream, and well-formed ends of broken ones."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import time
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.cortexd.gateway.conftest import MODEL, Gateway, Make
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron, stream_events, text_events
from tests.cortexd.gateway.test_dialects import ALL, GRAMMARS, NAMES, body, claude, sdk, whole


def inner(path: str, answer: httpx.Response) -> dict[str, Any]:
    """The error in a body of the dialect's shape."""
    told = answer.json()
    error: dict[str, Any] = told["error"]
    assert {"type", "message", "code", "param"} <= error.keys()
    named = told if path.startswith("/v1/messages") else error
    assert named["request_id"] == answer.headers["x-request-id"]
    assert (told.get("type") == "error") == path.startswith("/v1/messages")
    return error


@ALL
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b"[]", 400, "invalid_request_body"),
        (b"{}", 400, "missing_model_field"),
        (b'{"model": 5}', 400, "invalid_type"),
        (b" " * (1 << 20) + b"{}", 413, "request_too_large"),
    ],
)
def test_bad_bodies_are_refused_in_the_dialects_shape(
    usual: tuple[Gateway, FakeNeuron], path: str, content: bytes, status: int, code: str
) -> None:
    answer = usual[0].post(content, path)

    assert (answer.status_code, inner(path, answer)["code"]) == (status, code)


@ALL
def test_wrong_models_and_wrong_tasks_too(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway = usual[0]
    unknown = gateway.post(body(path) | {"model": "nope"}, path)
    wrong = gateway.post(body(path) | {"model": "tiny-embed"}, path)
    method = httpx.get(gateway.base + path)

    assert (unknown.status_code, inner(path, unknown)["code"]) == (404, "model_not_found")
    assert (wrong.status_code, inner(path, wrong)["code"]) == (400, "wrong_modality")
    assert (method.status_code, inner(path, method)["code"]) == (405, "method_not_allowed")


def test_the_clients_raise_their_own_exceptions(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    with pytest.raises(anthropic.NotFoundError):
        claude(gateway).messages.create(model="nope", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError) as stored:
        sdk(gateway).responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    assert stored.value.param == "previous_response_id"
    with pytest.raises(openai.BadRequestError) as kept:
        sdk(gateway).responses.create(model=MODEL, input="x", store=True)
    assert kept.value.param == "store"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ],
)
def test_what_is_not_served_is_said_in_the_dialects_shape(
    usual: tuple[Gateway, FakeNeuron], method: str, path: str
) -> None:
    answer = httpx.request(method, usual[0].base + path)

    assert (answer.status_code, inner(path, answer)["code"]) == (501, "not_implemented")


@ALL
def test_a_neurons_refusal_is_told_in_the_dialects_shape(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway, neuron = usual
    told = {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded", "param": "m",
            "max_tokens": 7}  # fmt: skip
    neuron.behaviour = Behaviour(status=400, body=json.dumps({"error": told}).encode())
    answers = [gateway.post(body(path, stream=stream), path) for stream in (False, True)]

    for answer in answers:
        error = inner(path, answer)
        assert (answer.status_code, error["message"], error["param"], error["max_tokens"]) == (400, "too long", "m", 7)
        assert error["code"] == gateway.row(answer)["error_code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "param", "word"),
    [
        ("/v1/messages", "response_format", "output_config.format"),
        ("/v1/messages", "stop", "stop_sequences"),
        ("/v1/responses", "max_tokens", "max_output_tokens"),
        ("/v1/responses", "messages", "input"),
        ("/v1/completions", "max_tokens", "max_tokens"),
    ],
)
def test_a_neurons_refusal_names_the_clients_member(
    usual: tuple[Gateway, FakeNeuron], path: str, param: str, word: str
) -> None:
    gateway, neuron = usual
    told = {"message": f"'{param}' is wrong", "type": "invalid_request_error", "code": "x", "param": param}
    neuron.behaviour = Behaviour(status=400, body=json.dumps({"error": told}).encode())
    error = inner(path, gateway.post(body(path), path))

    assert (error["param"], error["message"]) == (word, f"'{word}' is wrong")


def schema(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        made = {"items": made}
    return made


def test_what_is_nested_deeply_is_served_or_refused_at_every_depth(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway = usual[0]
    for depth in range(225, 256, 2):
        deep = schema(depth)
        told = {
            "/v1/messages": {"tools": [{"name": "f", "input_schema": deep}]},
            "/v1/responses": {"tools": [{"type": "function", "name": "f", "parameters": deep}]},
        }
        for path, more in told.items():
            for stream in (False, True):
                answer = gateway.post(body(path, stream=stream) | more, path)
                assert answer.status_code in (200, 400), (depth, answer.text)
                if answer.status_code == 200 and stream:
                    whole(path, answer.content)


JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**63, 1e308, "", "x", "\u0000", [], [[]], {}, {"type": "x"}, [None], "data:,", {"a": [{}]},
)  # fmt: skip
RICH: dict[str, dict[str, Any]] = {
    "/v1/messages": {
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": "AA=="}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"},
                                              {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "c",
                                          "is_error": True}]},
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["x"], "output_config": {"effort": "high"}, "temperature": 0.5, "top_k": 3,
    },
    "/v1/responses": {
        "input": [
            {"role": "developer", "content": "d"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
        ],
        "tools": [{"type": "function", "name": "look", "parameters": {}}, {"type": "namespace", "name": "n",
                  "description": "d", "tools": [{"type": "function", "name": "f", "parameters": {}}]}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "metadata": {"a": "b"}, "tool_choice": "auto", "instructions": "i", "max_output_tokens": 5,
    },
    "/v1/completions": {
        "prompt": ["a", "b"], "logprobs": 2, "echo": True, "n": 1, "stop": ["x"], "logit_bias": {"1": 2},
        "stream_options": {"include_usage": True},
    },
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something may be replaced."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))][not path :]


@ALL
def test_no_body_makes_the_gateway_fail(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway = usual[0]
    good = body(path) | RICH[path]
    statuses = {}
    with httpx.Client() as http:
        assert http.post(gateway.base + path, json=good).status_code == 200
        for i, place in enumerate(places(good)):
            for junk in JUNK[i % 3 :: 3]:
                mutated = json.loads(json.dumps(good))
                holder = mutated
                for key in place[:-1]:
                    holder = holder[key]
                holder[place[-1]] = junk
                answer = http.post(gateway.base + path, json=mutated)
                assert answer.status_code in (200, 400, 404), (mutated, answer.text)
                if answer.status_code != 200:
                    inner(path, answer)
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

    assert statuses[400] > 20 and statuses[200] > 5


def test_a_neuron_without_the_route_is_named_and_not_asked_to_load(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    told = {"message": "no such route", "type": "invalid_request_error", "code": "route_not_found", "param": None}
    neuron.behaviour = Behaviour(status=404, body=json.dumps({"error": told}).encode())
    answer = gateway.post(body("/v1/completions"), "/v1/completions")

    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_implemented")
    assert "'n1' does not serve /v1/completions" in answer.json()["error"]["message"]


@ALL
def test_strange_answers_of_a_neuron_are_its_failure(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway, neuron = usual
    for strange in (b"<html>", b"[]", b'{"choices": 5}', b'{"choices": [{"finish_reason": 1, "index": []}]}'):
        neuron.behaviour = Behaviour(body=strange)
        for stream in (False, True):
            answer = gateway.post(body(path, stream=stream), path)
            assert (answer.status_code, inner(path, answer)["code"]) == (502, "upstream_malformed_response")
            assert gateway.row(answer)["outcome"] == "error"


@ALL
def test_a_stream_that_is_cut_anywhere_ends_well_formed_and_says_that_it_failed(
    usual: tuple[Gateway, FakeNeuron], path: str
) -> None:
    gateway, neuron = usual
    call = None if path == "/v1/completions" else ("look", '{"at": 1}')
    b = Behaviour(words=("one", "☀"), call=call)
    made = text_events if path == "/v1/completions" else stream_events
    length = len(b"".join(made(MODEL, b, usage=True)))
    http = httpx.Client()
    seen = set()
    for cut in [*range(1, length - 1, 41), length - 16, length - 3]:
        neuron.behaviour = Behaviour(words=b.words, call=call, cut_at=cut)
        answer = http.post(gateway.base + path, json=body(path, stream=True))
        if answer.status_code == 200:
            whole(path, answer.content)
            assert "upstream_read_failed" in answer.text, answer.text
        seen.add(answer.status_code)
        row = gateway.row(answer)
        assert (row["dialect"], row["outcome"], row["error_code"]) == (NAMES[path], "error", "upstream_read_failed")
    http.close()
    assert 200 in seen


@ALL
def test_an_error_inside_the_neurons_stream_is_the_last_thing_that_the_client_hears(
    usual: tuple[Gateway, FakeNeuron], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = usual[0]
    broken = b'data: {"error": {"message": "out of memory", "type": "api_error", "code": "generation_failed"}}\n\n'
    made = text_events if path == "/v1/completions" else stream_events
    events = [*made(MODEL, Behaviour(), usage=False)[:3], broken, b"data: [DONE]\n\n"]
    monkeypatch.setattr(f"tests.cortexd.gateway.fake_neuron.{made.__name__}", lambda *_, **__: events)
    answer = gateway.post(body(path, stream=True), path)

    whole(path, answer.content)
    assert "out of memory" in answer.text and "two" in answer.text
    assert gateway.row(answer)["error_code"] == "generation_failed"


def test_the_clients_hear_of_a_broken_stream(usual: tuple[Gateway, FakeNeuron]) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(die_after=2)
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        claude(gateway).messages.stream(
            model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "x"}]
        ) as stream,
    ):
        stream.get_final_message()
    events = list(sdk(gateway).responses.create(model=MODEL, input="x", stream=True))
    assert events[-1].type == "response.failed"
    with pytest.raises(openai.APIError, match="broke off"):
        list(sdk(gateway).completions.create(model=MODEL, prompt="x", stream=True))


@ALL
def test_another_neuron_takes_over_before_the_first_byte(make_gateway: Make, path: str) -> None:
    with FakeNeuron(Behaviour(die_after=0)) as dying, FakeNeuron() as good:
        gateway = make_gateway({"n1": dying.url, "n2": good.url})
        for stream in (False, True):
            answer = gateway.post(body(path, stream=stream), path)
            assert answer.status_code == 200 and gateway.row(answer)["neuron"] == "n2"


@ALL
def test_a_client_that_leaves_ends_the_neurons_work(usual: tuple[Gateway, FakeNeuron], path: str) -> None:
    gateway, neuron = usual
    for stream in (True, False):
        neuron.behaviour = Behaviour(step_s=30.0, first_byte_s=0.0 if stream else 30.0)
        neuron.seen.clear()
        before = len(gateway.rows())
        raw = json.dumps(body(path, stream=stream)).encode()
        host, port = gateway.base.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)))
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
        deadline = time.monotonic() + 5
        while not neuron.seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.close()

        assert neuron.seen[0].broken.wait(2.0)
        while not (rows := gateway.rows()[before:]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (rows[0]["outcome"], rows[0]["dialect"]) == ("cancelled", NAMES[path])


def test_an_answer_that_cannot_be_recorded_is_withheld_in_every_dialect(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url})
    gateway.post(body("/v1/messages"), "/v1/messages")
    shutil.rmtree(gateway.state / "spool", ignore_errors=True)
    (gateway.state / "spool").write_text("a file where a folder should be")
    blocker = sqlite3.connect(gateway.state / "state.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        for path in GRAMMARS:
            plain = gateway.post(body(path), path)
            streamed = gateway.post(body(path, stream=True), path)

            assert (plain.status_code, inner(path, plain)["code"]) == (503, "usage_not_recorded")
            assert plain.headers["retry-after"] == "5"
            whole(path, streamed.content)
            assert "usage_not_recorded" in streamed.text
            assert not any(end in streamed.text for end in ("message_stop", "response.completed", '"stop"'))
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    gateway.stop()
    assert "usage rows are lost" in gateway.log
    (gateway.state / "gateway.log").write_text("")  # it told where the disk failed, as it should
