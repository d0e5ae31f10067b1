from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron.engine.detokenize import Detokenizer, IncrementalText, StepText


def from_bytes(ids: list[int]) -> str:
    """A tokenizer whose tokens are bytes: every border is a bad one."""
    return bytes(ids).decode("utf-8", errors="replace")


def shown(text: str, *stop: str) -> tuple[str, str | None, list[str]]:
    detokenizer = Detokenizer(IncrementalText(from_bytes), stop)
    pieces = [detokenizer.push(b) for b in text.encode()]
    pieces.append(detokenizer.finish())
    return "".join(pieces), detokenizer.stopped, pieces


@given(st.text())
def test_any_text_comes_out_as_it_went_in_and_never_half_a_character(text: str) -> None:
    out, stopped, pieces = shown(text)

    assert (out, stopped) == (text, None)
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_an_answer_that_ends_inside_a_character_shows_that_it_did() -> None:
    detokenizer = Detokenizer(IncrementalText(from_bytes))

    assert [detokenizer.push(b) for b in "é".encode()[:1]] == [""]
    assert detokenizer.finish() == "\ufffd"


def test_bytes_that_are_no_text_do_not_hold_back_the_answer_for_ever() -> None:
    detokenizer = Detokenizer(IncrementalText(from_bytes))

    assert "".join(detokenizer.push(0xFF) for _ in range(100)).count("\ufffd") > 80


def test_the_stop_string_and_what_follows_are_not_shown() -> None:
    assert shown("one two END three", "END")[:2] == ("one two ", "END")


def test_text_that_only_begins_like_a_stop_string_is_shown_in_the_end() -> None:
    out, stopped, pieces = shown("EN EN", "END")

    assert (out, stopped) == ("EN EN", None)
    assert pieces[:3] == ["", "", "EN "]


@given(
    text=st.text(alphabet="ab\u00e9", max_size=30),
    stop=st.lists(st.text(alphabet="ab\u00e9", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(1, 7), min_size=1),
)
def test_the_first_complete_stop_string_ends_the_answer_however_it_is_cut(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    pieces: list[str] = []
    rest, turn = text, 0
    while rest:
        size = cuts[turn % len(cuts)]
        pieces.append(rest[:size])
        rest, turn = rest[size:], turn + 1
    detokenizer = Detokenizer(StepText(lambda i: pieces[i]), stop)

    out = "".join(detokenizer.push(i) for i in range(len(pieces))) + detokenizer.finish()

    expected, expected_stop = text, None
    for end in range(1, len(text) + 1):
        if hits := [s for s in stop if text[:end].endswith(s)]:
            expected_stop = max(hits, key=len)
            expected = text[: end - len(expected_stop)]
            break
    assert (out, detokenizer.stopped) == (expected, expected_stop)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Detokenizer(IncrementalText(from_bytes), ("",))
