"""The main job: two TOML files to a streamed answer and a usage row, with the parts that users use."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import Fleet, cortexd, start_fleet, stop_fleet

MODEL = "tiny-chat"


def chat(content: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 60, **more}


# Some 20,000 tokens: seconds of prompt, whatever the answer will be.
LONG = "The gateway asks the neuron, the neuron asks the device. " * 1500


def rows(fleet: Fleet, where: str = "1", *values: object) -> list[dict[str, Any]]:
    with sqlite3.connect(f"file:{fleet.database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM usage WHERE {where}", values)]


def sdk(fleet: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=fleet.base + "/v1", api_key="none-needed", max_retries=0)


def test_the_openai_sdk_completes_a_plain_chat_and_its_row_has_the_same_tokens(fleet: Fleet) -> None:
    answer = sdk(fleet).chat.completions.create(**chat("What is a neuron?", temperature=0))

    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    row = rows(fleet, "request_id = ?", answer._request_id)[0]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert (row["status"], row["outcome"], row["model"], row["neuron"]) == (200, "ok", MODEL, "local")
    assert 0 < row["ttft_s"] < row["duration_s"] and row["tokens_per_second"] > 0


def test_the_openai_sdk_streams_and_both_ways_say_the_same(fleet: Fleet) -> None:
    plain = sdk(fleet).chat.completions.create(**chat("say hi", temperature=0))
    stream = sdk(fleet).chat.completions.create(**chat("say hi", temperature=0, stream=True))

    chunks = list(stream)

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == plain.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        plain.choices[0].finish_reason
    ]
    assert all(c.usage is None for c in chunks), "usage was not asked for"


def test_usage_comes_in_the_stream_when_it_is_asked_for(fleet: Fleet) -> None:
    stream = sdk(fleet).chat.completions.create(**chat("say hi", stream=True, stream_options={"include_usage": True}))

    last = list(stream)[-1]

    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens > 0


def test_tokens_leave_one_by_one_and_the_row_is_there_with_the_last_byte(fleet: Fleet) -> None:
    arrivals: list[float] = []
    body = chat("Tell me a long story", stream=True, temperature=0, max_tokens=200)
    with httpx.stream("POST", fleet.base + "/v1/chat/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: {"):
                arrivals.append(time.monotonic())
            if line == "data: [DONE]":
                found = rows(fleet, "request_id = ?", response.headers["x-request-id"])
                break

    assert len(found) == 1
    assert len(arrivals) > 10
    # in one burst, at the end, all chunks would come within a moment
    assert arrivals[-1] - arrivals[0] > found[0]["duration_s"] / 2
    # a busy machine reads several at once
    assert len({round(t, 3) for t in arrivals}) > 2
    assert found[0]["ttft_s"] is not None and found[0]["ttft_s"] <= found[0]["duration_s"]


def test_two_requests_at_once_both_make_progress(fleet: Fleet) -> None:
    times: dict[int, list[float]] = {0: [], 1: []}

    def run(which: int) -> None:
        body = chat(LONG[:20_000], stream=True, temperature=0)
        with httpx.stream("POST", fleet.base + "/v1/chat/completions", json=body, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    times[which].append(time.monotonic())

    threads = [threading.Thread(target=run, args=(n,)) for n in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    overlap = min(times[0][-1], times[1][-1]) - max(times[0][0], times[1][0])
    shorter = min(t[-1] - t[0] for t in times.values())
    assert overlap > shorter / 2


def test_the_counters_of_the_gateway_move(fleet: Fleet) -> None:
    def requests() -> float:
        text = httpx.get(fleet.metrics + "/metrics").text
        lines = [
            line for line in text.splitlines() if line.startswith("cortex_requests_total{") and f'"{MODEL}"' in line
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    before = requests()
    sdk(fleet).chat.completions.create(**chat("say hi"))

    assert requests() == before + 1


def test_the_catalogue_lists_models_and_aliases(fleet: Fleet) -> None:
    listed = {model.id for model in sdk(fleet).models.list()}

    assert {MODEL, "tiny-embed", "default"} <= listed
    assert sdk(fleet).models.retrieve(MODEL).id == MODEL


def test_an_alias_serves_under_the_model_it_names(fleet: Fleet) -> None:
    answer = sdk(fleet).chat.completions.create(**(chat("say hi") | {"model": "default"}))

    row = rows(fleet, "request_id = ?", answer._request_id)[0]
    assert (row["requested_model"], row["model"]) == ("default", MODEL)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"[]", 400, None),
        (b'{"messages": []}', 400, "missing_model_field"),
        (b'{"model": 5, "messages": []}', 400, None),
        (b'{"model": "no-such", "messages": [{"role": "user", "content": "x"}]}', 404, "model_not_found"),
        (b'{"model": "tiny-chat", "messages": "x"}', 400, None),
        (b'{"model": "tiny-chat", "messages": [{"role": "user", "content": 5}]}', 400, None),
        (b'{"model": "tiny-chat", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', 400, None),
        (
            b'{"model": "tiny-chat", "messages": [{"role": "user", "content": "x"}], "prediction": {}}',
            400,
            "unsupported_parameter",
        ),
    ],
)
def test_bad_input_gets_an_error_in_the_shape_of_the_dialect(
    fleet: Fleet, body: bytes, status: int, code: str | None
) -> None:
    answer = httpx.post(
        fleet.base + "/v1/chat/completions", content=body, headers={"content-type": "application/json"}, timeout=30
    )

    error = answer.json()["error"]
    assert answer.status_code == status, answer.text
    assert {"message", "type", "code", "param"} <= set(error)
    assert error["type"] == "invalid_request_error"
    assert code is None or error["code"] == code
    assert answer.headers["x-request-id"]


def test_a_body_over_the_limit_is_refused(fleet: Fleet) -> None:
    answer = httpx.post(fleet.base + "/v1/chat/completions", content=b" " * (33 << 20), timeout=30)

    assert answer.status_code == 413
    assert answer.json()["error"]["message"]


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(fleet: Fleet) -> None:
    answer = httpx.post(fleet.base + "/v1/chat/completions", json=chat("x y z 1 2 3 " * 60_000), timeout=60)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_status_and_usage_tell_people_and_programs(fleet: Fleet) -> None:
    sdk(fleet).chat.completions.create(**chat("say hi"))

    status = cortexd("status", "--state-dir", "var", "--json", cwd=fleet.folder)
    usage = cortexd("usage", "--state-dir", "var", "--format", "json", cwd=fleet.folder)
    table = cortexd("usage", "--state-dir", "var", cwd=fleet.folder)

    assert MODEL in json.dumps(json.loads(status.stdout))
    assert MODEL in json.dumps(json.loads(usage.stdout))
    assert MODEL in table.stdout


def test_a_client_that_leaves_frees_its_place(fleet: Fleet) -> None:
    def in_flight() -> int:
        return sum(m["in_flight"] for m in httpx.get(fleet.neuron + "/health").json()["models"])

    body = chat(LONG, stream=True)
    with httpx.stream("POST", fleet.base + "/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
        request_id = response.headers["x-request-id"]
    deadline = time.monotonic() + 5
    while in_flight() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert in_flight() == 0
    while not (found := rows(fleet, "request_id = ?", request_id)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found[0]["outcome"] in ("cancelled", "ok")


def test_a_killed_neuron_gives_a_clean_error_and_the_gateway_recovers(tmp_path_factory: pytest.TempPathFactory) -> None:
    fleet = start_fleet(tmp_path_factory.mktemp("kill"))
    try:
        body = chat(LONG, stream=True)
        with httpx.stream("POST", fleet.base + "/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            for command, pid in fleet.children().items():
                if "neuron" in command and "serve" in command:
                    os.kill(pid, signal.SIGKILL)
            rest = [line for line in lines if line.startswith("data: ")]
            request_id = response.headers["x-request-id"]

        assert "error" in json.loads(rest[-1].removeprefix("data: "))
        assert rows(fleet, "request_id = ?", request_id)[0]["outcome"] == "error"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = httpx.post(fleet.base + "/v1/chat/completions", json=chat("say hi"), timeout=30)
            if answer.status_code == 200:
                break
            assert answer.status_code in (502, 503) and "error" in answer.json()
            time.sleep(0.3)
        assert answer.status_code == 200
    finally:
        stop_fleet(fleet)


def test_an_interrupt_stops_every_process_and_a_used_port_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    fleet = start_fleet(tmp_path_factory.mktemp("stop"))
    children = fleet.children()
    assert len(children) >= 4

    second = tmp_path_factory.mktemp("second")
    (second / "fleet.toml").write_text((fleet.folder / "fleet.toml").read_text())
    (second / "models.toml").write_text((fleet.folder / "models.toml").read_text())
    assert cortexd("compile", cwd=second).returncode == 0
    assert cortexd("apply", "--state-dir", "var", cwd=second).returncode == 0
    refused = cortexd("up", "--state-dir", "var", cwd=second)
    with httpx.Client() as idle:  # a client that keeps its connection open holds nobody up
        assert idle.get(fleet.base + "/health").status_code == 200
        started = time.monotonic()
        stop_fleet(fleet)
        assert time.monotonic() - started < 9

    assert "killed" not in fleet.log.read_text()
    assert refused.returncode == 1
    assert fleet.base.rsplit(":", 1)[1] in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr + refused.stdout + fleet.log.read_text()
    assert fleet.process.returncode == 0
    for pid in children.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
