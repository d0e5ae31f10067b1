"""The real session on a hand-made graph: what the KV pool promises, seen through logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuron.session.base import SessionError, SessionSpec
from neuron.session.ort import OrtSession, _named
from tests.neuron import tiny_graph

CONTEXT = 64


def open_session(folder: Path, rows: int = 4, context: int = CONTEXT) -> OrtSession:
    manifest = tiny_graph.write(folder, context)
    return OrtSession(SessionSpec(folder, manifest, rows, context, "cpu", 0, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifact")


def prompt(seed: int, length: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, tiny_graph.VOCAB, length)]


def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(folder: Path) -> None:
    session = open_session(folder)
    tokens = prompt(1, 30)

    whole = session.prefill(0, tokens, 0)
    for start in range(0, 30, 7):
        chunked = session.prefill(2, tokens[start : start + 7], start)

    np.testing.assert_allclose(chunked, whole, atol=1e-5)


def test_decoding_gives_the_logits_of_a_prompt_that_is_one_longer(folder: Path) -> None:
    session = open_session(folder)
    tokens = prompt(2, 20)
    whole = session.prefill(1, tokens, 0)

    session.prefill(0, tokens[:-1], 0)
    step = session.decode(np.array([tokens[-1]]), np.array([19]))

    np.testing.assert_allclose(step[0], whole, atol=1e-5)


def test_rows_of_different_lengths_and_idle_rows_share_a_step(folder: Path) -> None:
    session = open_session(folder)
    long, half, short = prompt(3, 40), prompt(4, 25), prompt(5, 3)
    alone = [session.prefill(0, tokens, 0) for tokens in (long, half, short)]

    # row 1 is in the middle of its prompt, row 2 belongs to nobody; both idle through two steps
    session.prefill(0, long[:-2], 0)
    session.prefill(1, half[:10], 0)
    session.prefill(3, short[:-2], 0)
    session.decode(np.array([long[-2], 0, 0, short[-2]]), np.array([38, 10, 0, 1]))
    last = session.decode(np.array([long[-1], 0, 0, short[-1]]), np.array([39, 10, 0, 2]))
    rest = session.prefill(1, half[10:], 10)

    np.testing.assert_allclose(last[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(rest, alone[1], atol=1e-5)
    np.testing.assert_allclose(last[3], alone[2], atol=1e-5)


def test_a_reused_row_remembers_nothing_of_its_former_owner(folder: Path) -> None:
    session = open_session(folder)
    tokens = prompt(6, 12)
    fresh = session.prefill(0, tokens, 0)

    session.prefill(1, prompt(7, 60), 0)

    np.testing.assert_array_equal(session.prefill(1, tokens, 0), fresh)


def test_a_step_touches_no_row_beyond_those_it_computes(folder: Path) -> None:
    session = open_session(folder)
    session.prefill(3, prompt(8, 9), 0)
    before = [buffer.owner[3].copy() for buffer in session._pool]

    session.prefill(1, prompt(9, 20), 0)
    session.decode(np.array([1, 2, 3]), np.array([0, 20, 0]))

    for old, buffer in zip(before, session._pool, strict=True):
        np.testing.assert_array_equal(buffer.owner[3], old)


def test_the_pool_is_written_in_place(folder: Path) -> None:
    session = open_session(folder)
    tokens = prompt(10, 5)

    session.prefill(2, tokens, 0)

    written = [np.abs(buffer.owner[2]).sum(axis=(0, 2)) > 0 for buffer in session._pool]
    assert all(w[:5].all() and not w[5:].any() for w in written)


def test_an_unused_pool_takes_no_memory(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    open_session(tmp_path, rows=1).prefill(0, [1, 2], 0)  # what the library itself allocates once
    before = resident()

    session = open_session(tmp_path, rows=64, context=60_000)
    session.prefill(5, [1, 2, 3], 0)

    assert session.kv_bytes == 64 * 60_000 * tiny_graph.manifest().kv_bytes_per_token > 900_000_000
    assert resident() - before < 100_000_000


def test_a_call_outside_the_pool_is_refused_before_it_writes(folder: Path) -> None:
    session = open_session(folder)

    with pytest.raises(SessionError, match="in 4 x 64"):
        session.prefill(0, [1] * 10, CONTEXT - 5)
    with pytest.raises(SessionError, match="4 rows of 64"):
        session.decode(np.array([1]), np.array([CONTEXT]))
    with pytest.raises(SessionError, match="4 rows of 64"):
        session.decode(np.ones(5, np.int64), np.zeros(5, np.int64))


def test_without_cuda_a_cuda_device_is_an_error_and_never_the_cpu(folder: Path) -> None:
    manifest = tiny_graph.write(folder, CONTEXT)

    with pytest.raises(SessionError, match="no CUDAExecutionProvider"):
        OrtSession(SessionSpec(folder, manifest, 1, CONTEXT, "cuda", 0, 1))


def test_a_broken_graph_is_a_session_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")

    with pytest.raises(SessionError, match=r"could not open model\.onnx"):
        OrtSession(SessionSpec(tmp_path, tiny_graph.manifest(), 1, CONTEXT, "cpu", 0, 1))


def test_a_graph_with_other_layers_than_its_manifest_is_refused(folder: Path) -> None:
    from dataclasses import replace

    manifest = tiny_graph.write(folder, CONTEXT)

    with pytest.raises(SessionError, match=r"past_key_values\.2\.key"):
        OrtSession(SessionSpec(folder, replace(manifest, layers=3), 1, CONTEXT, "cpu", 0, 1))
    with pytest.raises(SessionError, match="more than the 1 layers"):
        OrtSession(SessionSpec(folder, replace(manifest, layers=1), 1, CONTEXT, "cpu", 0, 1))


@pytest.mark.parametrize(
    ("text", "poisons"),
    [
        ("CUDA failure 700: an illegal memory access was encountered", True),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED", True),
        ("CUDA failure 2: out of memory", False),
        ("Non-zero status code returned while running GroupQueryAttention", False),
    ],
)
def test_only_a_lost_device_poisons(text: str, poisons: bool) -> None:
    with pytest.raises(SessionError) as failed, _named("run the model"):
        raise RuntimeError(text)

    assert failed.value.poisons is poisons
    assert text in str(failed.value)
