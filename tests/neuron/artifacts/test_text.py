"""Template, tokenizer and tool calls of a real artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import Event, PartEnded, PartStarted, TextDelta, ToolArgumentsDelta
from cortexd.protocol.request import ChatRequest, Message, Text, Tool, ToolCall
from neuron.artifacts.chat_template import ChatTemplate
from neuron.artifacts.store import BUILTIN, ArtifactError, open_artifact
from neuron.artifacts.tokenizer import Tokenizer
from neuron.artifacts.tool_calls import ToolCallParser

CHAT = BUILTIN / "tiny-chat"


def request(*messages: Message, tools: tuple[Tool, ...] = ()) -> ChatRequest:
    return ChatRequest("m", messages, tools)


def said(role: str, text: str) -> Message:
    return Message(role, (Text(text),))  # type: ignore[arg-type]


def test_messages_are_rendered_verbatim_in_order_and_nothing_is_added() -> None:
    prompt = ChatTemplate(CHAT).render(
        request(said("system", " a\n"), said("user", "<b> & 'c'"), said("system", "d"), said("user", "é😀"))
    )

    assert prompt == (
        "<|im_start|>system\n a\n<|im_end|>\n<|im_start|>user\n<b> & 'c'<|im_end|>\n"
        "<|im_start|>system\nd<|im_end|>\n<|im_start|>user\né😀<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tools_calls_and_results_are_rendered() -> None:
    call = Message("assistant", tool_calls=(ToolCall("c1", "f", '{"x": "é"}'),))
    prompt = ChatTemplate(CHAT).render(
        request(call, Message("tool", (Text("ok"),), tool_call_id="c1"), tools=(Tool("f"),))
    )

    assert '"name": "f"' in prompt.split("</tools>")[0]
    assert '<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>' in prompt
    assert "\nok" in prompt.split("</tool_call>")[-1]


@pytest.mark.parametrize(
    "source", ["{{ raise_exception('no system here') }}", "{{ messages[9].content }}", "{{ ''.__class__.__mro__ }}"]
)
def test_a_template_that_refuses_or_misbehaves_is_a_422(tmp_path: Path, source: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)

    with pytest.raises(ApiError) as caught:
        ChatTemplate(tmp_path).render(request(said("user", "x")))

    assert (caught.value.status, caught.value.code) == (422, "template_render_failed")


def test_a_model_without_a_template_is_told_at_load(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no chat template"):
        ChatTemplate(tmp_path)


@given(st.text(max_size=60))
def test_text_survives_the_tokenizer_token_by_token(text: str) -> None:
    tokenizer = _tokenizer()
    step = tokenizer.step(skip_special_tokens=False)

    assert "".join(step(token) or "" for token in tokenizer.encode(text)) == text


def _tokenizer(kept: list[Tokenizer] = []) -> Tokenizer:  # noqa: B006  (one tokenizer for all examples)
    if not kept:
        kept.append(Tokenizer(CHAT))
    return kept[0]


def test_the_shipped_artifacts_are_whole() -> None:
    assert open_artifact(CHAT).manifest.context >= 131_072
    assert open_artifact(BUILTIN / "tiny-embed").manifest.pooling == "mean"


def feed(text: str, size: int) -> list[Event]:
    parser = ToolCallParser("r", enabled=True)
    events: list[Event] = []
    for at in range(0, len(text), size):
        events += parser.push(text[at : at + size])
    return events + parser.finish()


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_text_and_calls_come_apart_however_the_tokens_cut_them(size: int) -> None:
    events = feed(f"before {CALL}\n{CALL}", size)

    calls = [e for e in events if isinstance(e, PartStarted) and e.kind == "tool_call"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "before "
    assert [c.name for c in calls] == ["f", "f"] and len({c.id for c in calls}) == 2
    assert [e.json for e in events if isinstance(e, ToolArgumentsDelta)] == ['{"x": 1}'] * 2
    assert sum(isinstance(e, PartEnded) for e in events) == 3


@pytest.mark.parametrize("text", ["<tool_call>not json</tool_call>", "<tool_call>{} and no end", "a < b <tool"])
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_call_stays_text(text: str, size: int) -> None:
    events = feed(text, size)

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == text
    assert not any(isinstance(e, ToolArgumentsDelta) for e in events)
