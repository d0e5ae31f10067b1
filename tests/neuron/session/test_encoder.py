"""The shipped encoder on ONNX Runtime, and what a graph must look like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cortexd.protocol.manifest import Manifest
from neuron.artifacts.store import BUILTIN
from neuron.artifacts.tokenizer import Tokenizer
from neuron.session.base import SessionError, SessionSpec
from neuron.session.encoder import OrtEncoder, open_session
from neuron.session.vectors import normalised, pooled
from tests.neuron import tiny_graph

EMBED = BUILTIN / "tiny-embed"


def manifest() -> Manifest:
    return Manifest.from_json((EMBED / "manifest.json").read_text())


def spec(threads: int = 2, **changes: object) -> SessionSpec:
    return SessionSpec(EMBED, replace(manifest(), **changes), 4, 512, "cpu", 0, threads)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def encoder() -> OrtEncoder:
    made = open_session(spec())
    assert isinstance(made, OrtEncoder)
    return made


def test_a_vector_is_the_same_to_the_last_bit_whatever_is_in_the_batch(encoder: OrtEncoder) -> None:
    random = np.random.default_rng(3)
    for length in (1, 2, 5, 17, 64, 300, 512):
        texts = random.integers(4, 4000, (7, length))
        together = encoder.embed(texts)
        for count in (1, 3, 5):
            for first in range(0, 7 - count, 2):
                part = encoder.embed(texts[first : first + count])
                assert (part == together[first : first + count]).all(), (length, count, first)


def test_texts_that_mean_the_same_are_near_and_vectors_have_length_one(encoder: OrtEncoder) -> None:
    tokenizer = Tokenizer(EMBED)

    def embed(text: str) -> np.ndarray:  # type: ignore[type-arg]
        vector: np.ndarray = encoder.embed(np.array([tokenizer.encode_text(text)]))[0]  # type: ignore[type-arg]
        return vector

    a, b, c = map(embed, ("How do I load a model?", "how do i load a model", "Count to 10"))
    assert np.allclose([np.linalg.norm(v) for v in (a, b, c)], 1, atol=1e-6)
    assert a @ b > a @ c


def test_pooling_takes_what_its_name_says() -> None:
    hidden = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

    assert pooled(hidden, "mean").tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert pooled(hidden, "cls").tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
    assert pooled(hidden, "last").tolist() == [[8, 9, 10, 11], [20, 21, 22, 23]]
    assert normalised(np.array([[3, 4], [0, 0]], np.float32)).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]


def test_a_call_is_bounded_in_tokens_and_takes_at_least_one_text(encoder: OrtEncoder) -> None:
    assert encoder.most(1) == 8192 and encoder.most(512) == 16
    with pytest.raises(SessionError, match="513 tokens"):
        encoder.embed(np.zeros((1, 513), np.int64))


def test_an_artifact_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="pooling"):
        open_session(spec(pooling=None))
    chat = replace(tiny_graph.write(tmp_path), task="embed", pooling="mean")
    with pytest.raises(SessionError, match="past_key_values"):
        open_session(SessionSpec(tmp_path, chat, 1, 64, "cpu", 0, 1))


@pytest.mark.export
def test_vectors_are_those_of_transformers_and_mean_pooling(encoder: OrtEncoder, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `export`")
    transformers = pytest.importorskip("transformers", reason="needs the extra `export`")
    pipeline = pytest.importorskip("neuron.artifacts.export.pipeline")
    config = transformers.BertConfig(
        vocab_size=4096, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=128, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(5)
    eager = transformers.BertModel(config, add_pooling_layer=False).eval()
    eager.save_pretrained(tmp_path / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "checkpoint" / name).write_bytes((EMBED / name).read_bytes())
    made = pipeline.export(tmp_path / "checkpoint", tmp_path / "artifact", task="embed")
    session = OrtEncoder(SessionSpec(tmp_path / "artifact", made, 4, 128, "cpu", 0, 2))

    for length in (1, 7, 128):
        ids = np.random.default_rng(length).integers(4, 4000, (5, length))
        with torch.no_grad():
            wanted = eager(torch.tensor(ids)).last_hidden_state.mean(dim=1)
        wanted = torch.nn.functional.normalize(wanted, dim=1).numpy()
        assert ((session.embed(ids) * wanted).sum(axis=1) > 0.9999).all()
