"""A neuron as a process: `neuron serve` with the tiny model."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from neuron.artifacts.store import BUILTIN

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "fleet-token-for-tests"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def configure(folder: Path, port: int, models: str) -> Path:
    (folder / "token").write_text(TOKEN + "\n")
    path = folder / "neuron.toml"
    path.write_text(
        f'name = "n1"\nlisten = "127.0.0.1:{port}"\ntoken_file = "token"\nkeepalive_interval_s = 0.2\n'
        f'[[devices]]\nname = "cpu-0"\nkind = "cpu"\nthreads = 1\nmemory_mb = 1500\n{models}'
    )
    return path


def start(path: Path) -> subprocess.Popen[bytes]:
    log = (path.parent / "log").open("wb")
    command = [sys.executable, "-m", "neuron", "serve", "--config", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def client(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {TOKEN}"}, timeout=60)


def wait(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(150):
        assert process.poll() is None
        try:
            if http.get("/health").json()["activation"]["state"] == "ready":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the neuron did not become ready")


MODELS = """
[[models]]
id = "org/tiny"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 32768
max_sequences = 2
pinned = true
[[models]]
id = "second"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 2048
[[models]]
id = "short"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
context = 2048
limit = { input = 100, output = 6 }
[[models]]
id = "huge"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
max_sequences = 8
[[models]]
id = "vectors"
task = "embed"
artifact = "builtin:tiny-chat"
devices = ["cpu-0"]
[[models]]
id = "broken"
artifact = "broken"
devices = ["cpu-0"]
[[models]]
id = "absent"
artifact = "absent"
devices = ["cpu-0"]
"""


@pytest.fixture(scope="module")
def neuron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("neuron"), free_port()
    shutil.copytree(BUILTIN / "tiny-chat", folder / "broken")
    with (folder / "broken" / "model.onnx").open("r+b") as graph:
        graph.seek(1000)
        graph.write(b"tampered")
    process = start(configure(folder, port, MODELS))
    with client(port) as http:
        try:
            wait(http, process)
            yield http
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()
            assert "Traceback" not in (folder / "log").read_text()


def chat(content: str = "say hi", **more: Any) -> dict[str, Any]:
    return {"model": "org/tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 30, **more}


def state(neuron: httpx.Client, model: str) -> dict[str, Any]:
    return next(m for m in neuron.get("/health").json()["models"] if m["id"] == model)


def test_an_answer_and_the_neurons_own_book_agree(neuron: httpx.Client) -> None:
    before = state(neuron, "org/tiny")
    answer = neuron.post("/v1/chat/completions", json=chat(temperature=0), headers={"x-request-id": "r-1"})
    after = state(neuron, "org/tiny")

    usage = answer.json()["usage"]
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.json()["choices"][0]["message"]["content"]
    assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == usage["prompt_tokens"]
    assert after["completion_tokens_total"] - before["completion_tokens_total"] == usage["completion_tokens"]


def test_a_stream_says_what_the_plain_answer_says_and_carries_usage_when_metered(neuron: httpx.Client) -> None:
    plain = neuron.post("/v1/chat/completions", json=chat(temperature=0)).json()
    lines = neuron.post(
        "/v1/chat/completions", json=chat(temperature=0, stream=True), headers={"x-cortexd-meter": "1"}
    ).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == plain["choices"][0]["message"]["content"]
    # the second one reuses the prompt of the first
    counted, again = ({k: v for k, v in u.items() if "details" not in k} for u in (plain["usage"], chunks[-1]["usage"]))
    assert again == counted and chunks[-1]["choices"] == []


def test_the_same_seed_gives_the_same_text(neuron: httpx.Client) -> None:
    def once(seed: int) -> str:
        body = chat("qz wx 7 ~", temperature=2.0, top_p=1.0, top_k=0, seed=seed)
        return str(neuron.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])

    assert once(1) == once(1)
    assert len({once(seed) for seed in range(8)}) > 1


def test_a_stop_string_ends_the_answer_before_itself(neuron: httpx.Client) -> None:
    whole = neuron.post("/v1/chat/completions", json=chat(temperature=0)).json()["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:4]

    choice = neuron.post("/v1/chat/completions", json=chat(temperature=0, stop=stop)).json()["choices"][0]

    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_who_hangs_up_frees_the_place_within_a_moment(neuron: httpx.Client) -> None:
    # a prompt that takes seconds, so that the request is certainly running
    body = chat("The neuron asks the device. " * 3000, stream=True)
    with neuron.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()  # kept: an iterator that nobody holds any more closes the connection
        assert next(lines)
        deadline = time.monotonic() + 3
        while not state(neuron, "org/tiny")["in_flight"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state(neuron, "org/tiny")["in_flight"] == 1
    deadline = time.monotonic() + 3
    while state(neuron, "org/tiny")["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.02)

    assert state(neuron, "org/tiny")["in_flight"] == 0


def test_more_requests_than_rows_all_get_their_answer(neuron: httpx.Client) -> None:
    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=neuron.base_url, headers=neuron.headers, timeout=60) as http:
            answers = await asyncio.gather(*(http.post("/v1/chat/completions", json=chat()) for _ in range(6)))
            return [a.status_code for a in answers]

    assert asyncio.run(all_at_once()) == [200] * 6


def test_a_model_comes_and_goes(neuron: httpx.Client) -> None:
    cold = neuron.post("/v1/chat/completions", json=chat() | {"model": "second"})
    loaded = neuron.post("/models/load", json={"model_id": "second"})
    again = neuron.post("/models/load", json={"model_id": "second"})
    served = neuron.post("/v1/chat/completions", json=chat() | {"model": "second"})
    unloaded = neuron.post("/models/unload", json={"model_id": "second"})
    twice = neuron.post("/models/unload", json={"model_id": "second"})

    assert (cold.status_code, cold.json()["error"]["code"]) == (503, "model_not_loaded")
    assert cold.headers["retry-after"]
    assert (loaded.status_code, again.status_code, served.status_code) == (200, 200, 200)
    assert unloaded.json()["freed_bytes"] > 0
    assert twice.status_code == 404


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        ("huge", 422, "cpu-0"),
        ("vectors", 422, "of task chat"),
        ("broken", 422, "sha256 of model.onnx"),
        ("absent", 422, "manifest.json"),
        ("unknown", 404, "not configured"),
    ],
)
def test_a_load_that_cannot_work_says_why(neuron: httpx.Client, model: str, status: int, said: str) -> None:
    answer = neuron.post("/models/load", json={"model_id": model})

    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    assert neuron.post("/v1/chat/completions", json=chat()).status_code == 200


def test_an_id_with_a_slash_has_an_endpoint(neuron: httpx.Client) -> None:
    assert neuron.get("/models/org/tiny/endpoint").json()["url"] == str(neuron.base_url)
    assert neuron.get("/models/second/endpoint").status_code == 503


def test_the_surface_that_others_read(neuron: httpx.Client) -> None:
    assert neuron.get("/discovery").json()["devices"][0]["name"] == "cpu-0"
    assert {m["id"] for m in neuron.get("/models").json()} >= {"org/tiny", "second"}
    assert neuron.get("/version").json()["package_version"]
    assert 'neuron_requests_total{device="cpu-0",model="org/tiny"}' in neuron.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("POST", "/v1/chat/completions", b"{", 400, "malformed_json"),
        ("POST", "/v1/chat/completions", b"{}", 400, "missing_model_field"),
        ("POST", "/models/load", b"[]", 400, "invalid_type"),
        ("GET", "/v1/chat/completions", None, 405, "method_not_allowed"),
        ("GET", "/nowhere", None, 404, "route_not_found"),
        ("POST", "/v1/chat/completions", b"x" * (33 << 20), 413, "body_too_large"),
    ],
)
def test_every_error_has_the_same_shape(
    neuron: httpx.Client, method: str, path: str, content: bytes | None, status: int, code: str
) -> None:
    answer = neuron.request(method, path, content=content)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert {"message", "type", "code", "param"} <= set(answer.json()["error"])


def test_only_the_fleet_gets_in(neuron: httpx.Client) -> None:
    stranger = httpx.post(f"{neuron.base_url}/v1/chat/completions", json=chat(), headers={"authorization": "Bearer no"})

    assert (stranger.status_code, stranger.json()["error"]["code"]) == (401, "invalid_api_key")
    assert httpx.get(f"{neuron.base_url}/health").status_code == 200


def test_a_prompt_that_leaves_no_room_is_refused_with_the_numbers(neuron: httpx.Client) -> None:
    error = neuron.post("/v1/chat/completions", json=chat("a b c 1 2 3 " * 12000)).json()["error"]

    assert error["code"] == "context_length_exceeded"
    assert error["max_tokens"] == 32768 < error["prompt_tokens"]


def test_a_models_limits_hold_for_prompt_and_answer_and_bound_an_answer_without_a_length(neuron: httpx.Client) -> None:
    assert neuron.post("/models/load", json={"model_id": "short"}).status_code == 200
    body = chat("count to a hundred", temperature=0) | {"model": "short"}
    del body["max_tokens"]

    unsaid = neuron.post("/v1/chat/completions", json=body).json()
    longer = neuron.post("/v1/chat/completions", json=body | {"max_tokens": 7}).json()["error"]
    prompt = neuron.post("/v1/chat/completions", json=body | chat("a b c " * 100) | {"model": "short", "max_tokens": 1})
    assert neuron.post("/models/unload", json={"model_id": "short"}).status_code == 200

    assert (unsaid["usage"]["completion_tokens"], unsaid["choices"][0]["finish_reason"]) == (6, "length")
    assert longer["code"] == "invalid_value" and "at most 6 tokens (limit.output)" in longer["message"]
    error = prompt.json()["error"]
    assert (prompt.status_code, error["code"], error["max_tokens"]) == (400, "context_length_exceeded", 100)
    assert error["prompt_tokens"] > 100 and "limit.input" in error["message"]


def test_a_tool_call_becomes_a_tool_call(neuron: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "list_hosts", "description": "list hosts",
            "parameters": {"type": "object", "properties": {}, "required": []}}}  # fmt: skip

    choice = neuron.post(
        "/v1/chat/completions", json=chat("Which hosts are there?", tools=[tool], temperature=0)
    ).json()["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "list_hosts", "arguments": "{}"}


def test_a_used_port_and_a_wrong_file_are_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = configure(tmp_path, taken.getsockname()[1], MODELS)
        used = subprocess.run(
            [sys.executable, "-m", "neuron", "serve", "--config", str(path)], capture_output=True, text=True, cwd=ROOT
        )
    path.write_text(path.read_text() + "\nfoo = 1\n")
    wrong = subprocess.run(
        [sys.executable, "-m", "neuron", "check", "--config", str(path)], capture_output=True, text=True, cwd=ROOT
    )

    assert used.returncode == 1 and "listen" in used.stderr and "Traceback" not in used.stderr
    assert wrong.returncode == 1 and "foo" in wrong.stderr and "Traceback" not in wrong.stderr
