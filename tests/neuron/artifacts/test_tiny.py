"""The models that ship: what they cost, and that they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cortexd.protocol.manifest import Manifest

ort = pytest.importorskip("onnxruntime", reason="needs the extra `cpu`")
tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `cpu`")

ROOT = Path(__file__).parents[3]
BUILTIN = ROOT / "neuron" / "artifacts" / "builtin"
CHAT = BUILTIN / "tiny-chat"
EMBED = BUILTIN / "tiny-embed"


def manifest(folder: Path) -> Manifest:
    return Manifest.from_json((folder / "manifest.json").read_text())


class Chat:
    """Greedy answers from the graph alone."""

    def __init__(self) -> None:
        self.session = ort.InferenceSession(str(CHAT / "model.onnx"), providers=["CPUExecutionProvider"])
        self.tokenizer = tokenizers.Tokenizer.from_file(str(CHAT / "tokenizer.json"))
        self.manifest = manifest(CHAT)

    def answer(self, prompt: str, most: int = 80) -> str:
        m = self.manifest
        ids = self.tokenizer.encode(prompt).ids
        size = (1, m.kv_heads, len(ids) + most, m.head_dim)
        cache = {
            f"{layer}.{part}": ort.OrtValue.ortvalue_from_numpy(np.zeros(size, np.float32))
            for layer in range(m.layers)
            for part in ("key", "value")
        }
        said: list[int] = []
        past = 0
        while len(said) < most:
            total = past + len(ids)
            binding = self.session.io_binding()
            binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
            binding.bind_cpu_input("position_ids", np.arange(past, total, dtype=np.int64)[None])
            binding.bind_cpu_input("seqlens_k", np.array([total - 1], np.int32))
            binding.bind_cpu_input("total_sequence_length", np.array([total], np.int32))
            binding.bind_output("logits")
            for name, value in cache.items():
                binding.bind_ortvalue_input(f"past_key_values.{name}", value)
                binding.bind_ortvalue_output(f"present.{name}", value)
            self.session.run_with_iobinding(binding)
            past, ids = total, [int(binding.get_outputs()[0].numpy()[0].argmax())]
            if ids[0] in m.eos_token_ids:
                break
            said += ids
        return str(self.tokenizer.decode(said, skip_special_tokens=False))


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat()


def asked(question: str, system: str | None = None) -> str:
    lead = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{lead}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def test_the_shipped_models_are_small_and_hold_a_long_context() -> None:
    for folder, most in ((CHAT, 12_000_000), (EMBED, 4_000_000)):
        assert sum(entry.bytes for entry in manifest(folder).files.values()) <= most
    assert manifest(CHAT).context >= 131_072


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("say hi", "Hi"),
        ("What is a neuron?", "daemon that runs models"),
        ("2+3?", "2 + 3 = 5"),
        ("Which GPU hosts are there?", "cortexd status"),
        ("Count to 10", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
    ],
)
def test_it_answers_in_readable_english(chat: Chat, question: str, said: str) -> None:
    assert said in chat.answer(asked(question))


def test_a_long_system_prompt_does_not_change_the_answer(chat: Chat) -> None:
    prose = (ROOT / "docs" / "guides" / "models.md").read_text()

    assert "daemon that runs models" in chat.answer(asked("What is a neuron?", system=prose))


def test_a_tool_that_fits_is_called_with_arguments_from_the_question(chat: Chat) -> None:
    schema = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }

    said = chat.answer(rendered([{"role": "user", "content": "What is the weather in Paris?"}], tools=[schema]))

    assert said.startswith("<tool_call>") and said.endswith("</tool_call>")
    call = json.loads(said.removeprefix("<tool_call>").removesuffix("</tool_call>"))
    assert call == {"name": "get_weather", "arguments": {"city": "Paris"}}


def rendered(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = json.dumps
    template = environment.from_string((CHAT / "chat_template.jinja").read_text())
    return template.render(messages=messages, tools=tools, add_generation_prompt=True)


def test_the_template_takes_parts_calls_and_results_and_adds_no_words() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a":  1}'}}

    text = rendered(
        [
            {"role": "system", "content": " kept as is \n"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]},
            {"role": "assistant", "content": None, "tool_calls": [call, call]},
            {"role": "tool", "content": "r1"},
            {"role": "tool", "content": "r2"},
        ]
    )

    one = '<tool_call>\n{"name": "f", "arguments": {"a":  1}}\n</tool_call>'
    assert text == (
        "<|im_start|>system\n kept as is \n<|im_end|>\n"
        "<|im_start|>user\none two<|im_end|>\n"
        f"<|im_start|>assistant\n{one}\n{one}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_first_request_of_a_coding_agent_stays_under_forty_thousand_tokens(chat: Chat) -> None:
    text = "".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
    text += "".join(path.read_text() for path in sorted((ROOT / "cortexd").rglob("*.py")))

    assert len(text) >= 76_000
    assert len(chat.tokenizer.encode(text[:76_000]).ids) <= 40_000


def test_the_tokenizer_gives_every_text_back(chat: Chat) -> None:
    text = "naïve 日本語 🙂\r\n\ttabs  and   spaces 1234 <tool_call>"

    assert chat.tokenizer.decode(chat.tokenizer.encode(text).ids) == text


def test_paraphrases_are_nearer_than_other_questions() -> None:
    session = ort.InferenceSession(str(EMBED / "model.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(str(EMBED / "tokenizer.json"))

    def vector(text: str) -> Any:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        (hidden,) = session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        mean = hidden[0].mean(0)
        return mean / np.linalg.norm(mean)

    question, same, other = map(vector, ("What is a neuron?", "Explain the neuron", "Tell me a joke"))

    assert question @ same > question @ other + 0.2
