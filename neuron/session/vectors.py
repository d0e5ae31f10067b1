"""From the states of an encoder's tokens to one vector of length 1."""

from __future__ import annotations

import numpy as np

from neuron.session.base import Vectors


def pooled(hidden: Vectors, pooling: str) -> Vectors:
    """``[B, T, hidden]`` to ``[B, hidden]``: the ``mean`` over all tokens, the first (``cls``) or the ``last``."""
    if pooling == "mean":
        mean: Vectors = hidden.mean(axis=1)
        return mean
    return hidden[:, 0 if pooling == "cls" else -1]


def normalised(vectors: Vectors) -> Vectors:
    """Each of length 1; what is all zeros stays so."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
