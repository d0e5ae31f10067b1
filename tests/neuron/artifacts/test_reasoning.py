"""Reasoning is told from the answer, however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron.artifacts.reasoning import ReasoningSplitter, opened

CASES = [
    ("<think>\nhm\n\nso\n</think>\n\nHi", False, "hm\n\nso", "Hi"),
    ("hm</think>\n\nHi <think>x</think>", True, "hm", "Hi <think>x</think>"),
    ("\n<think>a < b</thin", False, "a < b</thin", ""),
    ("Hi </think>", False, "", "Hi </think>"),
    ("<think>\n\n</think>\n\n", False, "", ""),
    (" <thi", False, "", " <thi"),
    ("<thicket", False, "", "<thicket"),
    ("", True, "", ""),
    ("hm\n", True, "hm", ""),
]


@given(st.sampled_from(CASES), st.data())
def test_any_cut_gives_the_same_reasoning_and_content(case: tuple[str, bool, str, str], data: st.DataObject) -> None:
    text, inside, reasoning, content = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    splitter = ReasoningSplitter(enabled=True, inside=inside)
    pieces = [splitter.push(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces.append(splitter.finish())

    assert "".join(piece[0] for piece in pieces) == reasoning
    assert "".join(piece[1] for piece in pieces) == content
    if content:
        assert splitter.content_from is not None and text[splitter.content_from :] == content


def test_reasoning_is_shown_as_it_comes() -> None:
    splitter = ReasoningSplitter(enabled=True)
    assert [splitter.push(piece) for piece in ("<th", "ink>", "\nso ", "it", "\n", "</thi", "nk>", "\n\n", "Hi")] == [
        ("", ""), ("", ""), ("so ", ""), ("it", ""), ("", ""), ("", ""), ("", ""), ("", ""), ("", "Hi"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "found"), [("assistant\n<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)]
)
def test_a_prompt_that_ends_with_the_mark_has_begun_the_reasoning(end: str, found: bool) -> None:
    assert opened(end) is found


def test_without_a_parser_everything_is_content() -> None:
    assert ReasoningSplitter(enabled=False).push("<think>x</think>") == ("", "<think>x</think>")
