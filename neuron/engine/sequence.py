"""One request inside the engine: its prompt, its answer so far, and its times."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuron.engine.events import EndReason, GenerationEnded, GenerationFailed
from neuron.engine.grammar import Grammar, TokenMask
from neuron.engine.logprobs import Logprobs, logprobs
from neuron.engine.penalties import Adjuster
from neuron.engine.sampler import Plan, choose


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What to generate. ``submitted_at`` in seconds on the engine's clock; ``entropy`` seeds a plan without a seed.

    ``top_logprobs``: how many alternatives to tell for each token (None: no logprobs). ``sibling``: a further answer to
    a prompt that is counted elsewhere, so it counts none. ``grammar``: what the answer must follow.
    """

    request_id: str
    prompt: tuple[int, ...]
    plan: Plan
    eos_token_ids: tuple[int, ...]
    max_tokens: int
    submitted_at: float
    entropy: int = 0
    top_logprobs: int | None = None
    sibling: bool = False
    grammar: Grammar | None = None


@dataclass(slots=True, eq=False)
class Sequence:
    """A request with its state. ``row`` is -1 while it waits; ``computed`` counts prompt tokens in the cache,
    ``cached`` those of them that were there when it came.
    """

    request: EngineRequest
    random: np.random.Generator
    adjuster: Adjuster | None
    mask: TokenMask | None = None
    row: int = -1
    computed: int = 0
    cached: int = 0
    generated: list[int] = field(default_factory=list)
    admitted_at: float | None = None
    prefilled_at: float | None = None

    @staticmethod
    def of(request: EngineRequest) -> Sequence:
        """A sequence that waits, with a random generator of its own: nobody else's draws shift it."""
        seed = request.entropy if request.plan.seed is None else request.plan.seed
        # a negative seed is legal in OpenAI's dialect, numpy wants an unsigned one
        adjustment = request.plan.adjustment
        adjuster = None if adjustment.nothing else Adjuster(adjustment, request.prompt)
        mask = None if request.grammar is None else request.grammar.mask()
        return Sequence(request, np.random.default_rng(seed % (1 << 64)), adjuster, mask)

    @property
    def request_id(self) -> str:
        return self.request.request_id

    def choose(self, logits: NDArray[np.float32]) -> int | None:
        """The next token from the logits ``[vocab]``, or None where they hold no usable number."""
        if self.adjuster is not None:
            logits = self.adjuster.apply(logits)
        if self.mask is not None:
            masked = self.mask.apply(logits)
            if masked is None:
                return None
            logits = masked
        return choose(logits, self.request.plan, self.random)

    def told(self, logits: NDArray[np.float32], token: int | None) -> Logprobs | None:
        """What the client wants to know of ``token``."""
        count = self.request.top_logprobs
        return None if count is None or token is None else logprobs(logits, token, count)

    def append(self, token: int) -> None:
        """``token`` is the next of the answer."""
        self.generated.append(token)
        if self.adjuster is not None:
            self.adjuster.add(token)
        if self.mask is not None:
            self.mask.accept(token)

    @property
    def fault(self) -> str:
        """Why ``choose`` found no token."""
        if self.mask is not None and (why := self.mask.fault):
            return f"the answer cannot follow its grammar any further: {why}"
        return "the model produced numbers that are not finite; its artifact or device is faulty"

    @property
    def counted(self) -> int:
        """Prompt tokens for the books."""
        return 0 if self.request.sibling else self.computed

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
            prompt_tokens=self.counted,
            completion_tokens=len(self.generated),
            cached_tokens=0 if self.request.sibling else self.cached,
            queue_s=admitted - self.request.submitted_at,
            prefill_s=prefilled - admitted,
            decode_s=now - prefilled,
        )

    def failed(self, message: str) -> GenerationFailed:
        """Its last event after a fault."""
        return GenerationFailed(self.request_id, message, self.counted, len(self.generated))
