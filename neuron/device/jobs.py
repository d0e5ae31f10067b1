"""What goes over the border of a device thread: frozen values in, plain values and events out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cortexd.protocol.manifest import Manifest
from cortexd.protocol.request import Sampling
from neuron.engine.events import Embedded, EndReason, GenerationEnded, GenerationFailed, TokenEvent, TokenProduced
from neuron.engine.grammar import Grammar

__all__ = [
    "Abort",
    "DeviceRefused",
    "DeviceSpec",
    "DeviceStatus",
    "Embed",
    "EmbedSpec",
    "Embedded",
    "EndReason",
    "GenerationEnded",
    "GenerationFailed",
    "GenerationSpec",
    "Job",
    "Load",
    "LoadSpec",
    "LoadedInfo",
    "Memory",
    "MemoryInfo",
    "ModelCounters",
    "ModelStatus",
    "OnEvent",
    "Shutdown",
    "Submit",
    "TokenEvent",
    "TokenProduced",
    "Unload",
]

DeviceHealth = Literal["starting", "ok", "poisoned", "stopped"]
OnEvent = Callable[[TokenEvent], None]


class DeviceRefused(Exception):
    """The device does not take this job. ``retry_after`` (seconds) is set only where waiting helps."""

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device to run. ``threads`` is for kind ``cpu``; ``memory_bytes`` is what models may take on it together."""

    name: str
    kind: Literal["cpu", "cuda"]
    index: int
    threads: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """A model to load: ``rows`` sequences at once, each of up to ``context`` tokens (prompt and answer together)."""

    model_id: str
    artifact: Path
    manifest: Manifest
    rows: int
    context: int


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """``handle`` is how others name the loaded model; it is never used again after ``unload``.

    ``measured_bytes``: what weights, KV pool and activations really take on the device; None where nobody could tell.
    """

    handle: int
    weight_bytes: int
    kv_bytes: int
    load_s: float
    measured_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """A prompt to continue. ``sampling`` is already merged with the model's defaults; its ``stop`` is not used here:
    stop strings are text, so whoever makes text from the tokens finds them (``neuron.engine.detokenize``) and aborts.

    ``max_tokens`` is cut to what the context leaves after the prompt. ``top_logprobs`` is how many alternatives to tell
    for each token (None: no logprobs at all). ``sibling``: a further answer to the prompt of another request, which
    counts that prompt and the request. ``grammar``: what the answer must follow.
    """

    request_id: str
    tokens: tuple[int, ...]
    sampling: Sampling
    eos_token_ids: tuple[int, ...]
    max_tokens: int
    top_logprobs: int | None = None
    sibling: bool = False
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class EmbedSpec:
    """Texts, in token ids, to make vectors of."""

    request_id: str
    inputs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelCounters:
    """The device's own count since its start, one per model id, kept when the model leaves (the second book).

    ``requests`` counts requests that ended in any way; the tokens are those of their last events.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A loaded model. ``in_flight`` holds a row, ``queue_depth`` waits for one. Speeds in tokens per second, smoothed
    over the last steps (0 before the first)."""

    handle: int
    model_id: str
    rows: int
    context: int
    in_flight: int
    queue_depth: int
    kv_tokens_used: int
    kv_tokens_total: int
    weight_bytes: int
    kv_bytes: int
    steps: int
    prefill_tok_s: float
    decode_tok_s: float


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A snapshot. ``progress`` counts real steps only: work without progress means that the device hangs."""

    name: str
    health: DeviceHealth
    reason: str | None
    memory_bytes: int
    memory_used_bytes: int
    progress: int
    models: tuple[ModelStatus, ...] = ()
    counters: dict[str, ModelCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """Bytes: declared for the device, taken by weights and KV pools, and free (measured on CUDA, the rest on CPU)."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Load:
    spec: LoadSpec
    result: Future[LoadedInfo]


@dataclass(frozen=True, slots=True)
class Unload:
    handle: int
    result: Future[int]


@dataclass(frozen=True, slots=True)
class Submit:
    """``submitted_at`` on the device's monotonic clock; ``entropy`` seeds a request that brought no seed."""

    handle: int
    spec: GenerationSpec
    on_event: OnEvent
    submitted_at: float
    entropy: int


@dataclass(frozen=True, slots=True)
class Embed:
    """As ``Submit``; the last event is ``Embedded`` or ``GenerationFailed``."""

    handle: int
    spec: EmbedSpec
    on_event: OnEvent
    submitted_at: float


@dataclass(frozen=True, slots=True)
class Abort:
    request_id: str


@dataclass(frozen=True, slots=True)
class Memory:
    result: Future[MemoryInfo]


@dataclass(frozen=True, slots=True)
class Shutdown:
    pass


Job = Load | Unload | Submit | Embed | Abort | Memory | Shutdown
