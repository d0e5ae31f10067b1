"""From tokens to the events of one choice, with the shipped tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.protocol.events import (
    Event,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolArgumentsDelta,
)
from cortexd.protocol.request import Sampling
from neuron.artifacts.reasoning import ReasoningSplitter
from neuron.artifacts.store import BUILTIN
from neuron.artifacts.tokenizer import Tokenizer
from neuron.choice import Choice
from neuron.device.jobs import GenerationEnded, GenerationSpec, TokenProduced
from neuron.engine.logprobs import Logprobs

TOKENIZER = Tokenizer(BUILTIN / "tiny-chat")
TEXT = "The neuron says: naïve 🙂 hosts — 漢字, then STOP and more."


def spec(stop: tuple[str, ...] = ()) -> GenerationSpec:
    return GenerationSpec("r", (1,), Sampling(stop=stop), (), 99, 1)


def run(choice: Choice, tokens: list[int]) -> list[Event]:
    events = choice.begin()
    for i, token in enumerate(tokens):
        events += choice.push(TokenProduced("r", token, Logprobs(-float(i), ((token, -float(i)),))))
    return events + choice.finish(GenerationEnded("r", "length", 1, len(tokens), 0, 0, 0, 0))


def text(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta))


def told(events: list[Event]) -> list[TokenLogprob]:
    return [t for e in events if isinstance(e, TextDelta) for t in e.logprobs]


def test_the_bytes_of_the_told_tokens_are_the_text() -> None:
    tokens = TOKENIZER.encode(TEXT)
    events = run(Choice(0, spec(), TOKENIZER, tools=False), tokens)

    assert text(events) == TEXT
    assert b"".join(t.data or b"" for t in told(events)).decode() == TEXT
    assert [t.logprob for t in told(events)] == [-float(i) for i in range(len(tokens))]


@settings(deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.integers(1, 12))
def test_a_stop_string_across_tokens_ends_text_and_logprobs_at_the_same_place(start: int, length: int) -> None:
    stop = TEXT[start : start + length]
    choice = Choice(0, spec((stop,)), TOKENIZER, tools=False)
    events = run(choice, TOKENIZER.encode(TEXT))
    shown = TEXT[: TEXT.index(stop)]

    assert (text(events), choice.stopped, choice.reason) == (shown, stop, "stop")
    data = b"".join(t.data or b"" for t in told(events))
    assert data.startswith(shown.encode()) and len(told(events)) <= len(TOKENIZER.encode(TEXT))
    # the last told token may reach into the stop string, no further one begins in it
    assert not shown or b"".join(t.data or b"" for t in told(events)[:-1]) != shown.encode()


def test_an_echo_comes_first_and_every_event_names_its_choice() -> None:
    events = run(Choice(3, spec(), TOKENIZER, tools=False, echo="Once. "), TOKENIZER.encode("Twice."))

    assert text(events) == "Once. Twice."
    assert {e.choice for e in events} == {3}  # type: ignore[union-attr]


@pytest.mark.parametrize("token", range(0, 4096, 37))
def test_a_piece_is_its_bytes(token: int) -> None:
    said, data = TOKENIZER.piece(token)

    assert data and said == data.decode("utf-8", "replace")


def kinds(events: list[Event]) -> list[str]:
    return [type(e).__name__ + (f":{e.kind}" if isinstance(e, PartStarted) else "") for e in events]


@pytest.mark.parametrize("inside", [False, True])
def test_reasoning_is_a_part_before_the_others_with_logprobs_of_the_content_alone(inside: bool) -> None:
    call = '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>'
    said = ("" if inside else "<think>\n") + f"hm <tool_call> {{}} hm\n</think>\n\nHi. {call}"
    choice = Choice(0, spec(), TOKENIZER, tools=True, reasoning=ReasoningSplitter(inside=inside))
    events = run(choice, TOKENIZER.encode(said))
    compact = [k for i, k in enumerate(kinds(events)) if i == 0 or kinds(events)[i - 1] != k]

    assert compact == [
        "PartStarted:reasoning", "ReasoningDelta", "PartEnded", "PartStarted:text", "TextDelta", "PartEnded",
        "PartStarted:tool_call", "ToolArgumentsDelta", "PartEnded",
    ]  # fmt: skip
    assert [e.index for e in events if isinstance(e, PartStarted | PartEnded)] == [0, 0, 1, 1, 2, 2]
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "hm <tool_call> {} hm"
    assert [e.json for e in events if isinstance(e, ToolArgumentsDelta)] == ['{"a": "</tool_call>"}']
    assert b"".join(t.data or b"" for t in told(events)).decode().strip() == text(events).strip() == "Hi."
    assert 0 < choice.reasoning_tokens < len(TOKENIZER.encode(said))


def test_an_answer_cut_within_its_reasoning_has_no_content() -> None:
    choice = Choice(0, spec(), TOKENIZER, tools=False, reasoning=ReasoningSplitter())
    events = run(choice, TOKENIZER.encode("<think>so </th"))

    assert kinds(events)[0] == "PartStarted:reasoning" and kinds(events)[-1] == "PartEnded"
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == "so </th"
    assert told(events) == [] and text(events) == ""
