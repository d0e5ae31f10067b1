"""What clients see, and the ledger keeps, when something breaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cortexd.gateway.conftest import MODEL, ROOT, Gateway, Make, chat, gateways, healthy
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron
from tests.cortexd.ports import free_ports


def error(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "code", "param"} <= set(body)
    return body


def test_a_neuron_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error_event(
    usual: tuple[Gateway, FakeNeuron],
) -> None:
    gateway, neuron = usual
    neuron.behaviour = Behaviour(die_after=2)
    errors = gateway.metric("cortex_request_errors_total", model=MODEL, node="n1")

    answer = gateway.post(chat(stream=True))
    events = [line for line in answer.text.split("\n") if line.startswith("data: ")]
    last = json.loads(events[-1].removeprefix("data: "))["error"]
    row = gateway.row(answer)

    assert len(events) == 4 and '"two ' in events[2]
    assert last["code"] == "upstream_read_failed" and last["request_id"] == row["request_id"]
    assert (row["outcome"], row["status"], row["completion_tokens"]) == ("error", 200, 2)
    assert gateway.metric("cortex_request_errors_total", model=MODEL, node="n1") == errors + 1


def test_a_neuron_that_fails_before_its_first_byte_is_replaced_by_another(make_gateway: Make) -> None:
    with FakeNeuron(Behaviour(die_after=0)) as dying, FakeNeuron(Behaviour(status=500)) as broken, FakeNeuron() as good:
        (closed,) = free_ports(1)
        neurons = {"n1": dying.url, "n2": broken.url, "n3": f"http://127.0.0.1:{closed}", "n4": good.url}
        gateway = make_gateway(neurons)

        for stream in (False, True):
            answer = gateway.post(chat(stream=stream))
            assert answer.status_code == 200
            assert gateway.row(answer)["neuron"] == "n4"
        assert len(dying.seen) == 2 and len(broken.seen) == 2


def test_with_nobody_left_the_last_failure_is_told(make_gateway: Make) -> None:
    with FakeNeuron() as neuron:
        gateway = make_gateway({"n1": neuron.url})
        neuron.behaviour = Behaviour(die_after=0)
        read = gateway.post(chat())
        neuron.behaviour = Behaviour(status=503)
        busy = gateway.post(chat(stream=True))
        neuron.behaviour = Behaviour(status=400, body=b"<html>no</html>")
        strange = gateway.post(chat())
    unreachable = gateway.post(chat())

    assert (read.status_code, error(read)["code"]) == (502, "upstream_read_failed")
    assert busy.status_code == 503 and busy.json()["error"]["message"] == "out of order"
    assert (strange.status_code, error(strange)["code"]) == (400, "upstream_malformed_response")
    assert (unreachable.status_code, error(unreachable)["code"]) == (503, "upstream_unreachable")
    assert unreachable.headers["retry-after"] == "3"
    assert [gateway.row(a)["outcome"] for a in (read, busy, strange, unreachable)] == ["error"] * 4


def test_a_connection_that_the_neuron_closed_while_it_rested_costs_no_request(make_gateway: Make) -> None:
    with FakeNeuron(Behaviour(keep_alive=False)) as neuron:
        gateway = make_gateway({"n1": neuron.url})

        assert [gateway.post(chat()).status_code for _ in range(3)] == [200] * 3


def test_unhealthy_neurons_are_told_with_the_time_to_wait(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url})
    gateway.execute(healthy("n1", False))

    answer = gateway.post(chat())

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert error(answer)["code"] == "service_unavailable"


@pytest.fixture
def refusing(usual: tuple[Gateway, FakeNeuron]) -> Gateway:
    return usual[0]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "malformed_json", None),
        (b"{", 400, "malformed_json", None),
        (b'{"model": "\xff"}', 400, "malformed_json", None),
        (b"[" * 5000 + b"]" * 5000, 400, "malformed_json", None),
        (b"[]", 400, "invalid_request_body", None),
        (b'{"messages": []}', 400, "missing_model_field", "model"),
        (b'{"model": 5}', 400, "invalid_type", "model"),
        (b'{"model": "org/tiny", "stream": "yes"}', 400, "invalid_type", "stream"),
        (b'{"model": "org/tiny", "messages": "x"}', 400, "invalid_type", "messages"),
        (b'{"model": "org/tiny", "stream_options": 1}', 400, "invalid_type", "stream_options"),
        (b'{"model": "org/tinny"}', 404, "model_not_found", "model"),
        (b'{"model": "tiny-embed", "messages": []}', 400, "wrong_modality", "model"),
        (b" " * (1 << 20) + b"{}", 413, "request_too_large", None),
    ],
)
def test_bad_bodies_get_an_error_with_a_code(
    refusing: Gateway, body: bytes, status: int, code: str, param: str | None
) -> None:
    answer = refusing.post(body)

    got = error(answer)
    assert (answer.status_code, got["type"], got["code"], got["param"]) == (
        status,
        "invalid_request_error",
        code,
        param,
    )
    assert got["request_id"] == answer.headers["x-request-id"]


def test_a_chunked_body_over_the_limit_is_refused_too(refusing: Gateway) -> None:
    pieces = (b" " * 100_000 for _ in range(20))

    answer = httpx.post(refusing.base + "/v1/chat/completions", content=pieces)

    assert (answer.status_code, error(answer)["code"]) == (413, "request_too_large")


def test_wrong_paths_and_methods_get_the_same_shape(refusing: Gateway) -> None:
    asked = [
        (httpx.get(refusing.base + "/nope"), 404, "not_found"),
        (httpx.get(refusing.base + "/metrics"), 404, "not_found"),
        (httpx.get(refusing.base + "/v1/chat/completions"), 405, "method_not_allowed"),
        (httpx.post(refusing.base + "/v1/embeddings", json={}), 400, "missing_model_field"),
        (httpx.post(refusing.base + "/v1/embeddings", json={"model": "default"}), 400, "wrong_modality"),
        (httpx.get(refusing.metrics + "/v1/models"), 404, "not_found"),
        (refusing.post(b"{}", headers={"Content-Encoding": "gzip"}), 415, "unsupported_media_type"),
    ]

    assert [(a.status_code, error(a)["code"]) for a, _, _ in asked] == [(s, c) for _, s, c in asked]
    host, port = refusing.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(b"NOT HTTP AT ALL\r\n\r\n")
        head, _, body = raw.recv(4096).partition(b"\r\n\r\n")
    assert b" 400 " in head and json.loads(body)["error"]["code"] == "malformed_http"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, FakeNeuron]]:
    """Without a keep-alive whose failing write would show that the client left."""
    with FakeNeuron() as started, gateways(tmp_path_factory.mktemp("slow")) as make:
        yield make({"n1": started.url}, keepalive_interval_s=20), started


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_closes_the_neurons_request_at_once(
    slow: tuple[Gateway, FakeNeuron], stream: bool
) -> None:
    gateway, neuron = slow
    neuron.behaviour = Behaviour(step_s=30.0, first_byte_s=0.0 if stream else 30.0)
    neuron.seen.clear()
    before = len(gateway.rows())
    body = json.dumps(chat(stream=stream)).encode()
    host, port = gateway.base.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    deadline = time.monotonic() + 5
    while not neuron.seen:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if stream:
        while b"data:" not in client.recv(4096):
            pass

    client.close()

    assert neuron.seen[0].broken.wait(1.0)
    while not (rows := gateway.rows()[before:]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (rows[0]["outcome"], rows[0]["status"]) == ("cancelled", 200 if stream else 499)
    assert gateway.metric("cortex_model_in_flight", model=MODEL) == 0


def test_without_a_database_answers_go_on_and_their_rows_arrive_later_once(
    neuron: FakeNeuron, make_gateway: Make
) -> None:
    gateway = make_gateway({"n1": neuron.url})
    blocker = sqlite3.connect(gateway.state / "state.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    answers = [gateway.post(chat(stream=s)) for s in (False, True, False)]
    spooled = [json.loads(line) for f in (gateway.state / "spool").glob("*.jsonl") for line in f.open()]
    blocker.execute("ROLLBACK")
    blocker.close()

    assert [a.status_code for a in answers] == [200] * 3
    assert [r["request_id"] for r in spooled] == [a.headers["x-request-id"] for a in answers]
    assert [gateway.row(a, wait_s=8)["outcome"] for a in answers] == ["ok"] * 3
    assert len(gateway.rows()) == 3
    time.sleep(0.2)
    assert list((gateway.state / "spool").glob("*.jsonl")) == []


def test_a_killed_gateway_has_the_row_of_every_answer_that_arrived(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, workers=2)
    answered: list[str] = []
    http = httpx.Client()

    def client() -> None:
        while True:
            try:
                answer = http.post(gateway.base + "/v1/chat/completions", json=chat(stream=True))
            except httpx.TransportError:
                return
            if answer.text.endswith("[DONE]\n\n"):
                answered.append(answer.headers["x-request-id"])

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    assert gateway.process is not None
    os.killpg(gateway.process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()

    kept = {row["request_id"] for row in gateway.rows()}
    assert len(answered) > 20
    assert set(answered) <= kept
    gateway.process.wait()


def test_sigterm_lets_a_stream_end(neuron: FakeNeuron, make_gateway: Make) -> None:
    neuron.behaviour = Behaviour(step_s=0.3)
    gateway = make_gateway({"n1": neuron.url})
    with httpx.stream("POST", gateway.base + "/v1/chat/completions", json=chat(stream=True), timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        rest = list(lines)

    assert "data: [DONE]" in rest
    assert gateway.process.wait(10) == 0
    assert gateway.row(answer)["outcome"] == "ok"


def test_a_port_in_use_is_a_sentence(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, start=False, metrics_listen=f"127.0.0.1:{neuron.port}")

    done = subprocess.run(
        [sys.executable, "-m", "cortexd", "gateway", "--state-dir", str(gateway.state)],
        cwd=ROOT, capture_output=True, text=True, timeout=20,
    )  # fmt: skip

    assert done.returncode == 1
    assert f"127.0.0.1:{neuron.port} is in use" in done.stderr and "metrics_listen" in done.stderr
    assert "Traceback" not in done.stderr
