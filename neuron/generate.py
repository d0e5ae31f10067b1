"""A request on a resident model: text in, protocol events out. Runs on the event loop, computes on the device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.protocol.events import Event, Failed, Finished, Started, Timing, Usage
from cortexd.protocol.request import ChatRequest, CompletionRequest, Feature, Sampling
from neuron import constraint
from neuron.artifacts import reasoning
from neuron.artifacts.reasoning import ReasoningSplitter
from neuron.choice import Choice
from neuron.device.jobs import (
    DeviceRefused,
    Embedded,
    GenerationEnded,
    GenerationFailed,
    GenerationSpec,
    TokenEvent,
    TokenProduced,
)
from neuron.device.thread import MAX_WAITING
from neuron.residents import Chatter

# A request that names no limit gets the rest of the context, but not more than this.
MAX_TOKENS = 8192
# Tokens at the end of a prompt among which the mark that begins reasoning would be.
_PROMPT_END = 16
# What of the dialects can be served.
FEATURES: frozenset[Feature] = frozenset(
    {"logprobs", "choices", "penalties", "logit_bias", "min_p", "response_format", "tool_choice"}
)
Prompt = tuple[tuple[int, ...], str | None]


def chat_tokens(resident: Chatter, request: ChatRequest) -> tuple[int, ...]:
    """The prompt: through the model's own template, then its tokenizer. Raises ApiError. From any thread."""
    shown = replace(request, tools=()) if request.tool_choice == "none" else request
    return tuple(resident.tokenizer.encode(resident.template.render(shown)))


class Generation:
    """One accepted request. Iterate ``events`` to its end, or ``abort``; either frees its places.

    It has ``n`` choices for each prompt, each with a row of its own. A seed counts up over them.
    """

    def __init__(
        self,
        resident: Chatter,
        request: ChatRequest | CompletionRequest,
        request_id: str,
        created: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Render, count and submit; from any thread. ``loop`` is where ``events`` will be iterated.

        Raises ApiError: 400 and 422 for the request, 503 where waiting helps.
        """
        self._resident = resident
        self._request = request
        self._id = request_id
        self._created = created
        self._queue: asyncio.Queue[TokenEvent] = asyncio.Queue()
        self._loop = loop
        self.ended = False
        self._check_ids()
        self._choices = self._make_choices(self._prompts())
        submitted = 0
        try:
            for choice in self._choices:
                resident.device.submit(resident.info.handle, choice.spec, self._arrived)
                submitted += 1
        except DeviceRefused as e:
            self._abort(self._choices[:submitted])
            if e.retry_after is not None:
                raise unavailable(e.reason, retry_after=e.retry_after) from e
            raise ApiError(503, "api_error", "service_unavailable", e.reason, retry_after=5) from e

    def _prompts(self) -> list[Prompt]:
        """The tokens of each prompt, and what is repeated before its answer."""
        request, tokenizer = self._request, self._resident.tokenizer
        if isinstance(request, ChatRequest):
            return [(chat_tokens(self._resident, request), None)]
        if request.echo and request.top_logprobs is not None:
            raise invalid_request("'echo' with 'logprobs' is not supported", code="unsupported_parameter", param="echo")
        found: list[Prompt] = []
        for prompt in request.prompts:
            tokens = tuple(tokenizer.encode_text(prompt)) if isinstance(prompt, str) else prompt
            text = prompt if isinstance(prompt, str) else tokenizer.text(tokens)
            found.append((tokens, text if request.echo else None))
        return found

    def _make_choices(self, prompts: list[Prompt]) -> list[Choice]:
        request, resident = self._request, self._resident
        most = resident.settings.max_sequences + MAX_WAITING
        if len(prompts) * request.n > most:
            raise invalid_request(f"'{request.model}' gives at most {most} choices", code="invalid_value", param="n")
        chat = isinstance(request, ChatRequest)
        tools = isinstance(request, ChatRequest) and bool(request.tools) and request.tool_choice != "none"
        reasons = chat and resident.settings.reasoning_parser is not None
        choices: list[Choice] = []
        for tokens, echo in prompts:
            inside = reasons and reasoning.opened(resident.tokenizer.text(tokens[-_PROMPT_END:]))
            grammar = None
            if isinstance(request, ChatRequest):
                grammar = constraint.grammar(resident, request, thinking=inside)
            for sibling in range(request.n):
                spec = replace(self._specify(tokens, len(choices), sibling=sibling > 0), grammar=grammar)
                splitter = ReasoningSplitter(inside=inside) if reasons else None
                choices.append(
                    Choice(len(choices), spec, resident.tokenizer, tools=tools, echo=echo, reasoning=splitter)
                )
        return choices

    def _specify(self, tokens: tuple[int, ...], index: int, *, sibling: bool) -> GenerationSpec:
        asked, own = self._request.sampling, self._resident.sampling
        param = "messages" if isinstance(self._request, ChatRequest) else "prompt"
        if not tokens:
            raise invalid_request(f"'{param}' has no tokens", code="invalid_value", param=param)
        room = self._resident.context - len(tokens)
        if room < 1:
            error = invalid_request(
                f"the prompt has {len(tokens)} tokens; the context of '{self._request.model}' is "
                f"{self._resident.context} tokens, and the answer needs room too",
                code="context_length_exceeded",
                param=param,
            )
            raise replace(error, extras={"prompt_tokens": len(tokens), "max_tokens": self._resident.context})
        limit = min(self._bounded(len(tokens), asked.max_tokens, own.max_tokens or MAX_TOKENS, param), room)
        sampling = merged(asked, own, limit, index)
        name = self._id if index == 0 else f"{self._id}-{index}"
        eos = (*self._resident.eos_token_ids, *asked.stop_token_ids)
        return GenerationSpec(name, tokens, sampling, eos, limit, self._request.top_logprobs, sibling)

    def _bounded(self, prompt: int, asked: int | None, usual: int, param: str) -> int:
        """How long the answer may be. Raises ApiError 400 beyond what the operator allows for this model."""
        most, name = self._resident.settings.limit, self._request.model
        if most.input is not None and prompt > most.input:
            message = f"the prompt has {prompt} tokens, and '{name}' takes at most {most.input} (limit.input)"
            error = invalid_request(message, code="context_length_exceeded", param=param)
            raise replace(error, extras={"prompt_tokens": prompt, "max_tokens": most.input})
        if asked == 0:
            raise invalid_request("max_tokens must be at least 1", code="invalid_value", param="max_tokens")
        if most.output is None:
            return asked or usual
        if asked is not None and asked > most.output:
            message = f"max_tokens is {asked}, and '{name}' answers with at most {most.output} tokens (limit.output)"
            raise invalid_request(message, code="invalid_value", param="max_tokens")
        return asked or min(usual, most.output)

    def _check_ids(self) -> None:
        """Token ids that a client names must be the model's. Raises ApiError 400."""
        request, vocab = self._request, self._resident.vocab
        named = {"logit_bias": [token for token, _ in request.sampling.logit_bias]}
        if isinstance(request, CompletionRequest):
            named["prompt"] = [token for p in request.prompts if not isinstance(p, str) for token in p]
        for param, tokens in named.items():
            if (largest := max(tokens, default=0)) >= vocab:
                message = f"'{param}' has the token {largest}; '{request.model}' knows 0 to {vocab - 1}"
                raise invalid_request(message, code="invalid_value", param=param)

    def _arrived(self, event: TokenEvent) -> None:
        """Called from the device thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def abort(self) -> None:
        """Free the places at the next step. Does nothing once the generation has ended."""
        if not self.ended:
            self._abort(self._choices)

    def _abort(self, choices: list[Choice]) -> None:
        for choice in choices:
            if choice.end is None:
                self._resident.device.abort(choice.spec.request_id)

    async def events(self) -> AsyncIterator[Event]:
        """Protocol events, first Started, last Finished or Failed."""
        prefix = "chatcmpl" if isinstance(self._request, ChatRequest) else "cmpl"
        yield Started(f"{prefix}-{self._id}", self._request.model, self._created)
        for choice in self._choices:
            for part in choice.begin():
                yield part
        by_id = {choice.spec.request_id: choice for choice in self._choices}
        while any(choice.end is None for choice in self._choices):
            event = await self._queue.get()
            assert not isinstance(event, Embedded)  # noqa: S101  (these are for embeddings only)
            choice = by_id[event.request_id]
            if isinstance(event, TokenProduced):
                before = choice.stopped
                for part in choice.push(event):
                    yield part
                if before != choice.stopped:
                    # the rest of the answer is not wanted; the end that comes carries the counts
                    self._abort([choice])
                continue
            for part in choice.finish(event):
                yield part
            if isinstance(event, GenerationFailed):
                self._abort(self._choices)
        self.ended = True
        yield self._end()

    def _end(self) -> Event:
        ends = [choice.end for choice in self._choices if choice.end is not None]
        done = [end for end in ends if isinstance(end, GenerationEnded)]
        usage = Usage(
            sum(end.prompt_tokens for end in ends),
            sum(end.completion_tokens for end in ends),
            sum(end.cached_tokens for end in done),
            sum(choice.reasoning_tokens for choice in self._choices),
        )
        failed = next((end for end in ends if isinstance(end, GenerationFailed)), None)
        if failed is not None:
            return Failed(ApiError(500, "api_error", "generation_failed", failed.message), usage)
        timing = Timing(done[0].queue_s, done[0].prefill_s, max(end.decode_s for end in done))
        first, *others = self._choices
        return Finished(first.reason, usage, timing, first.stopped, tuple(choice.reason for choice in others))


def merged(asked: Sampling, own: Sampling, limit: int, index: int) -> Sampling:
    """What the request says, else the model. Choice ``index`` has a seed of its own."""
    return replace(
        asked,
        temperature=own.temperature if asked.temperature is None else asked.temperature,
        top_p=own.top_p if asked.top_p is None else asked.top_p,
        top_k=own.top_k if asked.top_k is None else asked.top_k,
        min_p=own.min_p if asked.min_p is None else asked.min_p,
        repetition_penalty=own.repetition_penalty if asked.repetition_penalty is None else asked.repetition_penalty,
        seed=None if asked.seed is None else asked.seed + index,
        max_tokens=limit,
    )
