"""What is left of a long history."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cortexd.acp.compact import SAID_SO, budget, compact, tokens
from cortexd.protocol.request import Message, Text, ToolCall


@st.composite
def histories(draw: st.DrawFn) -> tuple[Message, ...]:
    """Prompts, each with rounds of calls and results, then an answer."""
    found: list[Message] = []
    size = st.integers(0, 3000)
    for prompt in range(draw(st.integers(1, 5))):
        found.append(Message("user", (Text("u" * draw(size)),)))
        for round in range(draw(st.integers(0, 4))):
            ids = [f"{prompt}.{round}.{i}" for i in range(draw(st.integers(1, 3)))]
            found.append(Message("assistant", (), tuple(ToolCall(i, "t", "{}") for i in ids)))
            found += [Message("tool", (Text("r" * draw(size)),), tool_call_id=i) for i in ids]
        found.append(Message("assistant", (Text("a" * draw(size)),)))
    return tuple(found[: draw(st.integers(1, len(found)))] if found[-1].role == "user" else found)


@settings(max_examples=200, deadline=None)
@given(histories(), st.integers(0, 6000))
def test_calls_and_results_stay_together_and_the_last_prompt_stays(history: tuple[Message, ...], limit: int) -> None:
    kept = compact(history, limit)

    asked = {call.id for m in kept for call in m.tool_calls}
    assert asked == {m.tool_call_id for m in kept if m.role == "tool"}
    assert kept[0].role == "user"
    assert [m for m in history if m.role == "user"][-1] in kept and kept[-1].role == history[-1].role
    assert tokens(history) > limit or kept == history


@settings(max_examples=200, deadline=None)
@given(histories())
def test_old_turns_go_until_it_fits(history: tuple[Message, ...]) -> None:
    last = [m for m in history if m.role == "user"][-1]
    end = max(n for n, m in enumerate(history) if m.role != "tool")
    needed = tokens((last, *history[end:], SAID_SO))

    assert tokens(compact(history, needed)) <= needed


def test_room_is_kept_for_the_answer() -> None:
    assert budget(8192, 1000) == 8192 - 1000 - 512
    assert budget(8192, None) == 8192 - 2048 - 512
