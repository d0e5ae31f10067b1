"""One request inside the engine: its prompt, its answer so far, and its times."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuron.engine.events import EndReason, GenerationEnded, GenerationFailed
from neuron.engine.sampler import Plan


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What to generate. ``submitted_at`` in seconds on the engine's clock; ``entropy`` seeds a plan without a seed."""

    request_id: str
    prompt: tuple[int, ...]
    plan: Plan
    eos_token_ids: tuple[int, ...]
    max_tokens: int
    submitted_at: float
    entropy: int = 0


@dataclass(slots=True, eq=False)
class Sequence:
    """A request with its state. ``row`` is -1 while it waits; ``computed`` counts prompt tokens in the cache."""

    request: EngineRequest
    random: np.random.Generator
    row: int = -1
    computed: int = 0
    generated: list[int] = field(default_factory=list)
    admitted_at: float | None = None
    prefilled_at: float | None = None

    @staticmethod
    def of(request: EngineRequest) -> Sequence:
        """A sequence that waits, with a random generator of its own: nobody else's draws shift it."""
        seed = request.entropy if request.plan.seed is None else request.plan.seed
        # a negative seed is legal in OpenAI's dialect, numpy wants an unsigned one
        return Sequence(request, np.random.default_rng(seed % (1 << 64)))

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def prompt_left(self) -> int:
        return len(self.request.prompt) - self.computed

    def tokens_at_most(self, context: int) -> int:
        """The most cache entries that this sequence can come to: the last sampled token is never written."""
        return min(len(self.request.prompt) + self.request.max_tokens - 1, context)

    def ended(self, reason: EndReason, now: float) -> GenerationEnded:
        """Its last event, at ``now`` on the engine's clock."""
        admitted = now if self.admitted_at is None else self.admitted_at
        prefilled = now if self.prefilled_at is None else self.prefilled_at
        return GenerationEnded(
            self.request_id,
            reason,
            prompt_tokens=self.computed,
            completion_tokens=len(self.generated),
            cached_tokens=0,  # every prompt is computed: the engine does not reuse prefixes
            queue_s=admitted - self.request.submitted_at,
            prefill_s=prefilled - admitted,
            decode_s=now - prefilled,
        )

    def failed(self, message: str) -> GenerationFailed:
        """Its last event after a fault."""
        return GenerationFailed(self.request_id, message, self.computed, len(self.generated))
