"""What the engine says about a request: plain values, in token ids. Text is made from them elsewhere (detokenize)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuron.engine.logprobs import Logprobs

EndReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class TokenProduced:
    """One token of the answer. A token that ends the answer (EOS) is counted, but never published as one of these."""

    request_id: str
    token: int
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class GenerationEnded:
    """The clean end. Times in seconds: waiting for a row, computing the prompt, generating.

    ``prompt_tokens`` is the share of the prompt that is in the cache: all of it, unless the request was aborted before.
    ``cached_tokens`` of these were there when the request came.
    ``completion_tokens`` counts every sampled token, the EOS included. These are the numbers that the device adds to
    its own books, so a usage row must take them from here rather than count ``TokenProduced``.
    """

    request_id: str
    reason: EndReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class GenerationFailed:
    """The other end. ``message`` is fit for a client: no paths, no prompt. Counts as in ``GenerationEnded``."""

    request_id: str
    message: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The clean end of an embedding: ``vectors`` ``[inputs, dimensions]`` in the order of the inputs.

    ``prompt_tokens`` counts all inputs. Times in seconds: until the first input was computed, and from there to the
    end.
    """

    request_id: str
    vectors: NDArray[np.float32]
    prompt_tokens: int
    queue_s: float
    compute_s: float


TokenEvent = TokenProduced | GenerationEnded | GenerationFailed | Embedded
