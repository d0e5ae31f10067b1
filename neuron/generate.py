"""A chat request on a resident model: text in, protocol events out. Runs on the event loop, computes on the device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.protocol.events import Event, Failed, Finished, FinishReason, Started, Timing, Usage
from cortexd.protocol.request import ChatRequest, Sampling
from neuron.artifacts.tool_calls import ToolCallParser
from neuron.device.jobs import (
    DeviceRefused,
    GenerationEnded,
    GenerationFailed,
    GenerationSpec,
    TokenEvent,
    TokenProduced,
)
from neuron.engine.detokenize import Detokenizer, StepText
from neuron.residents import Resident

# A request that names no limit gets the rest of the context, but not more than this.
MAX_TOKENS = 8192


class Generation:
    """One accepted request. Iterate ``events`` to its end, or ``abort``; either frees its place."""

    def __init__(
        self, resident: Resident, request: ChatRequest, request_id: str, created: int, loop: asyncio.AbstractEventLoop
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
        tokens = resident.tokenizer.encode(resident.template.render(request))
        self._spec = self._specify(tokens)
        try:
            resident.device.submit(resident.info.handle, self._spec, self._arrived)
        except DeviceRefused as e:
            if e.retry_after is not None:
                raise unavailable(e.reason, retry_after=e.retry_after) from e
            raise ApiError(503, "api_error", "service_unavailable", e.reason, retry_after=5) from e

    def _specify(self, tokens: list[int]) -> GenerationSpec:
        asked, own = self._request.sampling, self._resident.sampling
        room = self._resident.context - len(tokens)
        if room < 1:
            error = invalid_request(
                f"the prompt has {len(tokens)} tokens; the context of '{self._request.model}' is "
                f"{self._resident.context} tokens, and the answer needs room too",
                code="context_length_exceeded",
                param="messages",
            )
            raise replace(error, extras={"prompt_tokens": len(tokens), "max_tokens": self._resident.context})
        limit = asked.max_tokens or own.max_tokens or MAX_TOKENS
        sampling = Sampling(
            temperature=own.temperature if asked.temperature is None else asked.temperature,
            top_p=own.top_p if asked.top_p is None else asked.top_p,
            top_k=own.top_k if asked.top_k is None else asked.top_k,
            seed=asked.seed,
            max_tokens=min(limit, room),
            stop=asked.stop,
        )
        return GenerationSpec(self._id, tuple(tokens), sampling, self._resident.eos_token_ids, min(limit, room))

    def _arrived(self, event: TokenEvent) -> None:
        """Called from the device thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def abort(self) -> None:
        """Free the place at the next step. Does nothing once the generation has ended."""
        if not self.ended:
            self._resident.device.abort(self._id)

    async def events(self) -> AsyncIterator[Event]:
        """Protocol events, first Started, last Finished or Failed."""
        yield Started(f"chatcmpl-{self._id}", self._request.model, self._created)
        tools = bool(self._request.tools)
        text = Detokenizer(
            StepText(self._resident.tokenizer.step(skip_special_tokens=not tools)), self._request.sampling.stop
        )
        parser = ToolCallParser(self._id, enabled=tools)
        while True:
            event = await self._queue.get()
            match event:
                case TokenProduced():
                    for part in parser.push(text.push(event.token)):
                        yield part
                    if text.stopped is not None:
                        # the rest of the answer is not wanted; the end that comes carries the counts
                        self._resident.device.abort(self._id)
                case GenerationEnded():
                    self.ended = True
                    for part in [*parser.push(text.finish()), *parser.finish()]:
                        yield part
                    usage = Usage(event.prompt_tokens, event.completion_tokens, event.cached_tokens)
                    timing = Timing(event.queue_s, event.prefill_s, event.decode_s)
                    yield Finished(_reason(event, stopped=text.stopped is not None, calls=parser.calls), usage, timing)
                    return
                case GenerationFailed():
                    self.ended = True
                    for part in parser.finish():
                        yield part
                    error = ApiError(500, "api_error", "generation_failed", event.message)
                    yield Failed(error, Usage(event.prompt_tokens, event.completion_tokens))
                    return


def _reason(event: GenerationEnded, *, stopped: bool, calls: int) -> FinishReason:
    if calls:
        return "tool_calls"
    return "length" if event.reason == "length" and not stopped else "stop"
