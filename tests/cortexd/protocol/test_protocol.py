"""Errors, grammar and manifest: what every part relies on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cortexd.protocol.errors import ApiError, invalid_request
from cortexd.protocol.events import Finished, PartEnded, PartStarted, Started, TextDelta, Usage
from cortexd.protocol.grammar import Grammar, GrammarError
from cortexd.protocol.manifest import ArtifactFile, Manifest

MANIFEST = Manifest(
    task="chat", architecture="qwen3", layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16, vocab=32, dtype="fp32",
    context=64, weight_bytes=100, kv_bytes_per_token=128, graph="model.onnx",
    files={"model.onnx": ArtifactFile("0" * 64, 100)}, eos_token_ids=(1,), export={"torch": "x"},
)  # fmt: skip


def test_an_error_passes_through_a_context_manager_unchanged() -> None:
    @contextmanager
    def scope() -> Iterator[None]:
        yield

    with pytest.raises(ApiError, match="no"), scope():
        raise invalid_request("no", code="c")


def test_a_part_must_be_closed_before_the_end() -> None:
    grammar = Grammar()
    grammar.check(Started("i", "m", 0))
    grammar.check(PartStarted(0, "text"))

    with pytest.raises(GrammarError):
        grammar.check(Finished("stop", Usage(1, 1)))


@pytest.mark.parametrize("wrong", [PartStarted(1, "text"), TextDelta("x"), PartEnded(0)])
def test_what_has_not_begun_cannot_go_on(wrong: PartStarted | TextDelta | PartEnded) -> None:
    grammar = Grammar()
    grammar.check(Started("i", "m", 0))

    with pytest.raises(GrammarError):
        grammar.check(wrong)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


@pytest.mark.parametrize(
    ("change", "said"),
    [({"schema": 9}, "schema 9"), ({"more": 1}, "unknown members: more"), ({"files": None}, "wrong type")],
)
def test_a_wrong_manifest_says_what_is_wrong(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Manifest.from_json(json.dumps(json.loads(MANIFEST.to_json()) | change))
