"""Reasoning over HTTP: a model whose template begins it in the prompt, and an answer in a given form after it."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from neuron.artifacts.reasoning import CLOSE
from neuron.artifacts.store import BUILTIN
from neuron.artifacts.tokenizer import Tokenizer
from tests.neuron.http.test_neuron import client, configure, free_port, start, wait

MODELS = "".join(
    f'[[models]]\nid = "{name}"\nartifact = "{artifact}"\ndevices = ["cpu-0"]\ncontext = 2048\nmax_sequences = 2\n'
    f"pinned = true\n{parser}"
    for name, artifact, parser in (
        ("thinker", "thinker", 'reasoning_parser = "think"\ntool_parser = "hermes"\n'),
        ("plain", "thinker", ""),
        ("closed", "builtin:tiny-chat", 'reasoning_parser = "think"\n'),
    )
)
CHOICE = {"enum": ["yes", "no"]}
FORM = {"type": "json_schema", "json_schema": {"name": "it", "schema": CHOICE, "strict": True}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {},
                                                                       "additionalProperties": False}}}  # fmt: skip


def make_thinker(folder: Path) -> None:
    """The tiny model with a template that ends the prompt with the mark, and a token for each mark."""
    shutil.copytree(BUILTIN / "tiny-chat", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    template, tokens = folder / "chat_template.jinja", folder / "tokenizer.json"
    template.write_text(template.read_text() + "{{- '<think>\\n' -}}\n")
    tokens.write_text(tokens.read_text().replace('"<tools>"', '"<think>"').replace('"</tools>"', '"</think>"'))
    for path in (template, tokens):
        data = path.read_bytes()
        manifest["files"][path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def neuron(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("neuron"), free_port()
    make_thinker(folder / "thinker")
    process = start(configure(folder, port, MODELS))
    with client(port) as http:
        try:
            wait(http, process)
            yield http
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, (folder / "log").read_text()
            assert "Traceback" not in (folder / "log").read_text()


def ask(neuron: httpx.Client, model: str, **more: Any) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Count to 5"}], "max_tokens": 20}
    answer = neuron.post("/v1/chat/completions", json={**asked, "temperature": 0, **more})
    assert answer.status_code == 200, answer.text
    return answer


def streamed(answer: httpx.Response) -> dict[str, str]:
    said = {"content": "", "reasoning_content": ""}
    for line in answer.text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                for key in said:
                    said[key] += choice["delta"].get(key) or ""
    return said


def mumbling() -> dict[str, Any]:
    """So biased, the model says some of two tokens, and by and by the closing mark."""
    (close,), (hello,) = (Tokenizer(BUILTIN / "tiny-chat").encode(text) for text in ("</tools>", "hello"))
    return {"temperature": 2, "max_tokens": 500, "logit_bias": {str(hello): 100, str(close): 99}}


def test_what_the_template_began_is_reasoning_and_without_a_parser_text(neuron: httpx.Client) -> None:
    thought, plain = ask(neuron, "thinker").json(), ask(neuron, "plain").json()

    message = thought["choices"][0]["message"]
    assert message["content"] == ""
    assert message["reasoning_content"] == plain["choices"][0]["message"]["content"].strip("\n") != ""
    details = thought["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == thought["usage"]["completion_tokens"] - (
        thought["choices"][0]["finish_reason"] == "stop"
    )
    said = streamed(ask(neuron, "thinker", stream=True))
    assert said == {"content": "", "reasoning_content": message["reasoning_content"]}


def test_an_answer_that_begins_without_the_mark_is_content(neuron: httpx.Client) -> None:
    message = ask(neuron, "closed").json()["choices"][0]["message"]
    assert message["content"] and "reasoning_content" not in message
    formed = ask(neuron, "closed", response_format=FORM, max_tokens=200).json()["choices"][0]
    assert formed["finish_reason"] in ("stop", "length")


def test_a_form_holds_after_the_reasoning_plain_and_streamed(neuron: httpx.Client) -> None:
    thoughts = []
    for seed in range(6):
        demand = mumbling() | {"response_format": FORM, "seed": seed}
        choice = ask(neuron, "thinker", logprobs=True, **demand).json()["choices"][0]
        message = choice["message"]
        assert choice["finish_reason"] == "stop" and json.loads(message["content"]) in CHOICE["enum"]
        assert "".join(t["token"] for t in choice["logprobs"]["content"]) == message["content"]
        thoughts.append(message.get("reasoning_content", ""))
        said = streamed(ask(neuron, "thinker", stream=True, **demand))
        assert said == {"content": message["content"], "reasoning_content": thoughts[-1]}
    assert any(thoughts) and not any(CLOSE in thought for thought in thoughts)


def test_a_forced_call_comes_after_the_reasoning(neuron: httpx.Client) -> None:
    named = {"type": "function", "function": {"name": "look"}}
    found = [ask(neuron, "thinker", tools=[TOOL], tool_choice=named, **mumbling() | {"seed": i}) for i in range(6)]
    choices = [answer.json()["choices"][0] for answer in found]
    assert any(choice["message"].get("reasoning_content") for choice in choices)
    for choice in choices:
        assert choice["finish_reason"] == "tool_calls" and not choice["message"]["content"]
        assert [call["function"] for call in choice["message"]["tool_calls"]] == [{"name": "look", "arguments": "{}"}]
