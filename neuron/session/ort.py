"""The only place that runs models with ONNX Runtime.

A chat graph, as ``neuron.artifacts.export`` writes it (B rows of T tokens; B > 1 only with T = 1):

- in: ``input_ids`` and ``position_ids`` int64 [B, T]; ``seqlens_k`` int32 [B], tokens in each row's cache after the
  call, less one; ``total_sequence_length`` int32 [1], the largest such count; ``past_key_values.N.key`` and
  ``.value`` [B, kv_heads, S, head_dim];
- out: ``logits`` [B, vocab] after the last position; ``present.N.key`` and ``.value``, the same buffers as the past.

The KV pool of each layer is one buffer ``[rows, kv_heads, S, head_dim]`` for keys and one for values, allocated once
on the device. Past and present of a call are bound to the same memory: one row of the pool for a prompt chunk, the
rows ``[0:n)`` for a decode step, so nothing of the cache is ever copied. Only ids, positions and logits move.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from neuron.session.base import Logits, SessionError, SessionSpec

_NUMPY = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

# Attention on the CPU keeps its scores for a whole call: tokens x buffer length x heads, in fp32. This bounds it.
_SCORE_BYTES = 256 << 20
_MAX_CHUNK = 1024

# CUDA says these for what a process does not recover from; being out of memory is not among them.
_CUDA_MARKS = ("cuda failure", "cuda error", "cublas failure", "cudnn failure", "cublas_status", "cudnn_status")


@dataclass(slots=True)
class _Buffer:
    """Part of the KV pool under the graph's names. ``owner`` keeps the memory alive; ``row_bytes`` is one row's."""

    past: str
    present: str
    owner: Any
    address: int
    row_bytes: int


def runtime() -> tuple[str, tuple[str, ...]]:
    """The version of ONNX Runtime, and the execution providers of this build, sorted."""
    return ort.__version__, tuple(sorted(ort.get_available_providers()))


class OrtSession:
    """A chat model on ONNX Runtime (``neuron.session.base.Session``). Made and used on its device's thread.

    Raises SessionError when the artifact cannot be opened, its graph has another form, or CUDA is not there: it never
    falls back to another device.
    """

    def __init__(self, spec: SessionSpec) -> None:
        manifest = spec.manifest
        if manifest.task != "chat":
            raise SessionError(
                f"a model of task {manifest.task!r} does not generate text; it needs an embedding session"
            )
        self.rows = spec.rows
        self.context = spec.context
        self.vocab = manifest.vocab
        self._device, self._index = spec.kind, spec.index
        with _named(f"open {manifest.graph}"):
            self._session: Any = _open(spec)
        kinds = {v.name: v.type for v in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._kv_shape = (manifest.kv_heads, spec.context, manifest.head_dim)
        _check_interface(kinds, manifest.layers)
        self._kv_dtype = _numpy_type(kinds["past_key_values.0.key"])
        self._logits_dtype = _numpy_type(kinds["logits"])
        with _named("allocate the KV pool"):
            self._pool = [b for layer in range(manifest.layers) for b in self._allocate(layer)]
        self.kv_bytes = self.rows * sum(b.row_bytes for b in self._pool)
        self.max_chunk = max(16, min(_MAX_CHUNK, _SCORE_BYTES // (spec.context * manifest.heads * 4)))
        self._prefills: dict[int, Any] = {}
        self._decodes: dict[int, Any] = {}

    def prefill(self, row: int, tokens: Sequence[int], start: int) -> Logits:
        """Write ``tokens`` at positions ``start``... of ``row``; the logits ``[vocab]`` after the last one."""
        count = len(tokens)
        if not (0 <= row < self.rows and count > 0 and start >= 0 and start + count <= self.context):
            raise SessionError(f"tokens {start}:{start + count} of row {row} are not in {self.rows} x {self.context}")
        binding = self._prefills.get(row)
        if binding is None:
            binding = self._prefills[row] = self._bind_pool(row, 1)
        ids = np.asarray(tokens, np.int64)[np.newaxis]
        positions = np.arange(start, start + count, dtype=np.int64)[np.newaxis]
        logits: Logits = self._run(binding, ids, positions, np.array([start + count], np.int32))[0]
        return logits

    def decode(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Logits:
        """One token more for each of the rows ``0..n-1``, at position ``lengths[row]``; logits ``[n, vocab]``."""
        n = len(tokens)
        if not (0 < n <= self.rows and len(lengths) == n and lengths.min() >= 0 and lengths.max() < self.context):
            raise SessionError(f"{n} tokens at {lengths.tolist()} are not in {self.rows} rows of {self.context}")
        binding = self._decodes.get(n)
        if binding is None:
            binding = self._decodes[n] = self._bind_pool(0, n)
        return self._run(binding, tokens[:, np.newaxis], lengths[:, np.newaxis], (lengths + 1).astype(np.int32))

    def warm(self, limit_s: float) -> int | None:
        """As in ``Session``. A few tokens tell how long the largest prompt chunk will take."""
        chunk = min(self.max_chunk, self.context - 1)
        few = min(16, chunk)
        self.prefill(0, [0] * few, 0)  # the first run of all makes what later ones reuse
        started = time.perf_counter()
        self.prefill(0, [0] * few, 0)
        if (time.perf_counter() - started) * chunk / few > limit_s:
            return None
        self.prefill(0, [0] * chunk, 0)
        zeros = np.zeros(self.rows, np.int64)
        self.decode(zeros, zeros)
        return self.kv_bytes // (self.rows * self.context) * (chunk + self.rows - 1)

    @staticmethod
    def prepare(spec: SessionSpec) -> None:
        """Make the context of a GPU, once per process: it belongs to the device, not to the first model on it."""
        if spec.kind == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
            with _named("start the device"):
                ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.float32), spec.kind, spec.index)

    def close(self) -> None:
        """Give the memory back: bindings first, they point into the pool."""
        self._prefills.clear()
        self._decodes.clear()
        self._pool.clear()
        self._session = None

    def _run(
        self, binding: Any, ids: NDArray[np.int64], positions: NDArray[np.int64], totals: NDArray[np.int32]
    ) -> Logits:
        """One call. ``totals`` is the number of tokens in each row's cache after it."""
        # kept until the call returns: the binding only borrows this memory
        logits = np.empty((len(ids), self.vocab), self._logits_dtype)
        inputs = {
            "input_ids": np.ascontiguousarray(ids),
            "position_ids": np.ascontiguousarray(positions),
            "seqlens_k": totals - np.int32(1),
            "total_sequence_length": totals.max(keepdims=True),
        }
        with _named("run the model"):
            for name, value in inputs.items():
                # bound anew each time: ONNX Runtime copies to the device when it binds, not when it runs
                binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
            binding.bind_output("logits", "cpu", 0, self._logits_dtype, logits.shape, logits.ctypes.data)
            if self._device != "cpu":
                binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            if self._device != "cpu":
                binding.synchronize_outputs()
        return np.asarray(logits, np.float32)

    def _allocate(self, layer: int) -> Iterator[_Buffer]:
        shape = (self.rows, *self._kv_shape)
        row_bytes = int(np.prod(self._kv_shape)) * np.dtype(self._kv_dtype).itemsize
        for part in ("key", "value"):
            # Zeroed, so that no attention kernel can turn masked garbage into NaN. On the CPU the system hands out zero
            # pages when they are first written: a row that nobody used costs no memory.
            owner: Any = np.zeros(shape, self._kv_dtype)
            if self._device == "cpu":
                address = owner.ctypes.data
            else:
                owner = ort.OrtValue.ortvalue_from_numpy(owner, self._device, self._index)
                address = owner.data_ptr()
            yield _Buffer(f"past_key_values.{layer}.{part}", f"present.{layer}.{part}", owner, address, row_bytes)

    def _bind_pool(self, first: int, count: int) -> Any:
        """A binding of past and present to the rows ``first..first+count-1``; made once for each use."""
        binding = self._session.io_binding()
        shape = (count, *self._kv_shape)
        for buffer in self._pool:
            address = buffer.address + first * buffer.row_bytes
            binding.bind_input(buffer.past, self._device, self._index, self._kv_dtype, shape, address)
            binding.bind_output(buffer.present, self._device, self._index, self._kv_dtype, shape, address)
        return binding


def _open(spec: SessionSpec) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if spec.kind == "cpu":
        # waiting threads sleep: on a small host they would take the cores from whoever sends the tokens out
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider: str | tuple[str, dict[str, str]]
    wanted = "CPUExecutionProvider" if spec.kind == "cpu" else "CUDAExecutionProvider"
    if wanted not in ort.get_available_providers():
        raise SessionError(
            f"this ONNX Runtime has no {wanted} (it has {', '.join(ort.get_available_providers())}); "
            "install the extra `cuda` on a GPU host, without the extra `cpu` beside it"
        )
    provider = wanted if spec.kind == "cpu" else (wanted, {"device_id": str(spec.index)})
    session = ort.InferenceSession(str(spec.artifact / spec.manifest.graph), options, providers=[provider])
    session.disable_fallback()
    if wanted not in session.get_providers():
        raise SessionError(
            f"{wanted} did not start on device {spec.index}; the driver and the CUDA and cuDNN libraries must match "
            "this ONNX Runtime"
        )
    return session


def _check_interface(kinds: dict[str, str], layers: int) -> None:
    needed = ["input_ids", "position_ids", "seqlens_k", "total_sequence_length", "logits"]
    for layer in range(layers):
        for part in ("key", "value"):
            needed += [f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"]
    if missing := [name for name in needed if name not in kinds]:
        raise SessionError(
            f"the graph has no {', '.join(missing[:4])}; export the model again with `cortexd model export`"
        )
    if f"past_key_values.{layers}.key" in kinds:
        raise SessionError(f"the graph has more than the {layers} layers of its manifest; export the model again")


def _numpy_type(kind: str) -> Any:
    if kind not in _NUMPY:
        raise SessionError(f"the graph uses {kind}; supported are float and float16")
    return _NUMPY[kind]


@contextmanager
def _named(doing: str) -> Iterator[None]:
    """ONNX Runtime raises half a dozen unrelated types; here they become one, which says whether the device is lost."""
    try:
        yield
    except SessionError:
        raise
    except Exception as e:
        text = str(e)
        lost = any(mark in text.lower() for mark in _CUDA_MARKS) and "out of memory" not in text.lower()
        raise SessionError(f"ONNX Runtime could not {doing}: {text}", poisons=lost) from e
