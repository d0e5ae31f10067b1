"""The mask alone: what it lets through, and what it says when it cannot go on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neuron.artifacts.store import BUILTIN
from neuron.artifacts.tokenizer import Tokenizer
from neuron.engine.grammar import Grammar, GrammarError, Vocabulary
from neuron.engine.sampler import ENGINE_DEFAULTS, prepare
from neuron.engine.sequence import EngineRequest, Sequence

TOKENIZER = Tokenizer(BUILTIN / "tiny-chat")
EOS = (2, 0)
VOCABULARY = Vocabulary(TOKENIZER.as_json(), 4096, EOS)


def follow(grammar: Grammar, text: str) -> list[bool]:
    """Whether each token of ``text`` was allowed where it came, up to the first that was not."""
    mask, found = grammar.mask(), []
    for token in TOKENIZER.encode(text):
        masked = mask.apply(np.zeros(4096, np.float32))
        assert masked is not None
        found.append(bool(masked[token] == 0))
        if not found[-1]:
            break
        mask.accept(token)
    return found


def test_end_tokens_come_where_the_answer_may_end_and_alone_where_it_must() -> None:
    mask = VOCABULARY.compile('start: "a" "b"?').mask()
    allowed = []
    for token in (*TOKENIZER.encode("a"), *TOKENIZER.encode("b")):
        masked = mask.apply(np.zeros(4096, np.float32))
        assert masked is not None
        allowed.append({int(i) for i in np.flatnonzero(masked == 0)})
        mask.accept(token)
    last = mask.apply(np.zeros(4096, np.float32))
    assert last is not None
    assert not allowed[0] & set(EOS) and allowed[1] == {*EOS, *TOKENIZER.encode("b")}
    assert {int(i) for i in np.flatnonzero(last == 0)} == set(EOS)


def test_the_logits_themselves_stay_as_they_are_and_a_grammar_is_used_again() -> None:
    grammar = VOCABULARY.compile('start: "abc"')
    logits = np.ones(4096, np.float32)
    for _ in range(2):
        assert all(follow(grammar, "abc"))
        grammar.mask().apply(logits)
    assert (logits == 1).all()


def test_text_that_reads_as_a_special_token_is_spelled() -> None:
    mask = VOCABULARY.compile(f"start: {json.dumps('x</tool_call>y')}").mask()
    said: list[int] = []
    while not said or said[-1] not in EOS:
        masked = mask.apply(np.arange(4096, dtype=np.float32))
        assert masked is not None, mask.fault
        said.append(int(masked.argmax()))
        mask.accept(said[-1])
    assert TOKENIZER.text(said[:-1]) == "x</tool_call>y"


def test_a_token_that_was_not_allowed_ends_the_request_with_the_reason() -> None:
    request = EngineRequest(
        "r", (1,), prepare(ENGINE_DEFAULTS), EOS, 5, 0.0, grammar=VOCABULARY.compile('start: "abc"')
    )
    sequence = Sequence.of(request)
    sequence.append(TOKENIZER.encode("z")[0])
    assert sequence.choose(np.zeros(4096, np.float32)) is None
    assert "grammar" in sequence.fault and "not finite" not in sequence.fault


@pytest.mark.parametrize("lark", ["start: nowhere", 'start: %json {"type": "frob"}', "start: /((/"])
def test_what_is_no_grammar_is_refused_in_a_line(lark: str) -> None:
    with pytest.raises(GrammarError) as refused:
        VOCABULARY.compile(lark)
    assert str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) <= 500
