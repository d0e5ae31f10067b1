"""Does the graph compute what eager transformers computes? An artifact that does not is never published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from neuron.artifacts.export.errors import ExportError
from neuron.artifacts.export.gqa import AttentionShape

# fp32 on both sides; what remains is the order of additions.
MAX_ABS_FP32 = 1e-4
DECODE_STEPS = 8
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class _Runner:
    """The decoder graph over a pool of KV rows that past and present share, bound the way a neuron binds it."""

    def __init__(self, graph: Path, shape: AttentionShape, rows: int, buffer: int) -> None:
        try:
            self._session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        except Exception as e:
            raise ExportError(f"ONNX Runtime does not accept the graph: {str(e).splitlines()[0]}") from e
        size = (rows, shape.kv_heads, buffer, shape.head_dim)
        # not zeros: entries that nobody wrote must not be read
        self._pool = {
            f"{layer}.{part}": np.full(size, 3.0, np.float32)
            for layer in range(len(shape.windows))
            for part in ("key", "value")
        }

    def run(self, tokens: Ids, past: tuple[int, ...], row: int = 0) -> Floats:
        """``tokens`` [batch, T] at the rows from ``row`` on, after ``past[i]`` cached ones; logits [batch, vocab]."""
        batch, count = tokens.shape
        before = np.array(past)
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("position_ids", before[:, None] + np.arange(count)[None])
        binding.bind_cpu_input("seqlens_k", (before + count - 1).astype(np.int32))
        binding.bind_cpu_input("total_sequence_length", np.array([before.max() + count], np.int32))
        binding.bind_output("logits")
        for name, pool in self._pool.items():
            rows = pool[row : row + batch]
            place = ("cpu", 0, np.float32, rows.shape, rows.ctypes.data)
            binding.bind_input(f"past_key_values.{name}", *place)
            binding.bind_output(f"present.{name}", *place)
        self._session.run_with_iobinding(binding)
        logits: Floats = binding.get_outputs()[0].numpy()
        return logits


def verify_decoder(graph: Path, shape: AttentionShape, model: Any, context: int) -> float:
    """Largest absolute difference of logits over prefill, chunked prefill, and decode alone and in a batch.

    ``model`` is the checkpoint in eager transformers. The prompt is longer than any sliding window, so every path
    crosses its border. Raises ExportError above MAX_ABS_FP32.
    """
    length = min(context, max([96, *(2 * w for w in shape.windows)]))
    rng = np.random.default_rng(7)
    long, short = (rng.integers(0, model.config.vocab_size, (1, n)).astype(np.int64) for n in (length, length // 2 + 5))
    half, end = length // 2, length - DECODE_STEPS
    runner = _Runner(graph, shape, 2, length)
    runner.run(long[:, ::-1].copy(), (0,))
    pairs = []

    def compare(tokens: Ids, first: int, last: int, row: int) -> None:
        pairs.append((runner.run(tokens[:, first:last], (first,), row)[0], tokens, last))

    compare(long, 0, end, 0)  # whole
    compare(long, 0, half, 0)  # and over what that left behind, in chunks
    compare(long, half, end, 0)
    begin = short.shape[1] - DECODE_STEPS
    compare(short, 0, begin, 1)
    for step in range(DECODE_STEPS):
        if step % 2:
            compare(long, end + step, end + step + 1, 0)
            compare(short, begin + step, begin + step + 1, 1)
            continue
        now = np.concatenate([long[:, end + step : end + step + 1], short[:, begin + step : begin + step + 1]])
        got = runner.run(now, (end + step, begin + step))
        pairs += [(got[0], long, end + step + 1), (got[1], short, begin + step + 1)]
    differences = []
    for tokens in (long, short):
        mine = [(got, last - 1) for got, source, last in pairs if source is tokens]
        expected = _expected(model, tokens, [at for _, at in mine])
        differences += [_difference(got, want) for (got, _), want in zip(mine, expected, strict=True)]
    return _accept(float(np.max(differences)))  # of NumPy, which keeps a NaN


def _expected(model: Any, tokens: Ids, positions: list[int]) -> Floats:
    """Logits [len(positions), vocab] of eager transformers; only these, as all of them may not fit in memory."""
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(tokens), use_cache=False, logits_to_keep=torch.tensor(positions))
    logits: Floats = out.logits[0].float().numpy()
    return logits


def verify_encoder(graph: Path, model: Any) -> float:
    """Largest absolute difference of hidden states, over a batch with padding. Raises ExportError above the bound."""
    import torch

    rng = np.random.default_rng(7)
    tokens = rng.integers(0, model.config.vocab_size, (3, 24)).astype(np.int64)
    mask = np.ones_like(tokens)
    mask[1, 15:] = 0
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask))
    expected = out.last_hidden_state.float().numpy()
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (got,) = session.run(["last_hidden_state"], {"input_ids": tokens, "attention_mask": mask})
    return _accept(_difference(got[mask == 1], expected[mask == 1]))


def _difference(got: Floats, expected: Floats) -> float:
    return float(np.abs(got - expected).max())


def _accept(worst: float) -> float:
    # written so that NaN is refused as well
    if not worst <= MAX_ABS_FP32:
        raise ExportError(
            f"the exported graph differs from transformers by {worst:.2e} (allowed {MAX_ABS_FP32:.0e}); "
            "nothing was published"
        )
    return worst
