"""An encoder on ONNX Runtime: texts in, one vector each out.

The graph, as ``neuron.artifacts.export`` writes it: ``input_ids`` and ``attention_mask`` int64 [B, T] (``position_ids``
and ``token_type_ids`` too, where the model has them) to ``last_hidden_state`` [B, T, hidden]. All texts of a call have
the same length: without padding a vector is the same to the last bit whatever else is in the batch.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuron.session.base import SessionError, SessionSpec, Vectors
from neuron.session.ort import OrtSession, _named, _numpy_type, _open
from neuron.session.vectors import normalised, pooled

_SCORE_BYTES = 256 << 20
_MAX_TOKENS = 8192
_OUTPUT = "last_hidden_state"
_TAKES = {"input_ids", "attention_mask", "position_ids", "token_type_ids"}


class OrtEncoder:
    """``neuron.session.base.Encoder``. Made and used on its device's thread.

    Raises SessionError when the artifact cannot be opened or its graph has another form.
    """

    kv_bytes = 0

    def __init__(self, spec: SessionSpec) -> None:
        manifest = spec.manifest
        if manifest.task != "embed" or manifest.pooling is None:
            raise SessionError(f"a model of task {manifest.task!r} without pooling makes no vectors")
        self._pooling = manifest.pooling
        self.context = spec.context
        self.vocab = manifest.vocab
        self.dimensions = manifest.hidden
        self._heads = manifest.heads
        with _named(f"open {manifest.graph}"):
            self._session: Any = _open(spec)
        self._inputs = {v.name: v.type for v in self._session.get_inputs()}
        outputs = {v.name: v.type for v in self._session.get_outputs()}
        wrong = sorted(set(self._inputs) - _TAKES) or sorted({n for n, t in self._inputs.items() if "int64" not in t})
        if wrong or _OUTPUT not in outputs or "input_ids" not in self._inputs:
            what = f"wants {', '.join(wrong)}" if wrong else f"has no input_ids or no {_OUTPUT}"
            raise SessionError(f"the graph {what}; export the model again with `cortexd model export`")
        _numpy_type(outputs[_OUTPUT])

    def most(self, length: int) -> int:
        """How many texts of ``length`` tokens one call takes: at least 1."""
        scores = self._heads * length * length * 4
        return max(1, min(_MAX_TOKENS // length, _SCORE_BYTES // scores))

    def embed(self, tokens: NDArray[np.int64]) -> Vectors:
        """Pooled and normalised vectors ``[B, dimensions]`` of the texts ``tokens`` [B, T]. Raises SessionError."""
        count, length = tokens.shape
        if not (count > 0 and 0 < length <= self.context):
            raise SessionError(f"{count} texts of {length} tokens; 1 to {self.context} tokens are possible")
        feed = {
            "input_ids": np.ascontiguousarray(tokens),
            "attention_mask": np.ones_like(tokens),
            "position_ids": np.broadcast_to(np.arange(length, dtype=np.int64), tokens.shape).copy(),
            "token_type_ids": np.zeros_like(tokens),
        }
        with _named("run the model"):
            hidden = self._session.run([_OUTPUT], {name: feed[name] for name in self._inputs})[0]
        return normalised(pooled(np.asarray(hidden, np.float32), self._pooling))

    def warm(self, limit_s: float) -> int | None:
        """As in ``Session``: the largest call, unless a small one tells that it would take too long."""
        few = min(16, self.context)
        self.embed(np.zeros((1, few), np.int64))
        started = time.perf_counter()
        self.embed(np.zeros((1, few), np.int64))
        if (time.perf_counter() - started) * _MAX_TOKENS / few > limit_s:
            return None
        self.embed(np.zeros((self.most(self.context), self.context), np.int64))
        return 0

    def close(self) -> None:
        """Give the memory back."""
        self._session = None


class OrtFactory:
    """Opens what an artifact's task asks for."""

    prepare = staticmethod(OrtSession.prepare)

    def __call__(self, spec: SessionSpec) -> OrtSession | OrtEncoder:
        """Raises SessionError."""
        return OrtEncoder(spec) if spec.manifest.task == "embed" else OrtSession(spec)


open_session = OrtFactory()
