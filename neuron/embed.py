"""Texts on a resident encoder: vectors out. Runs on the event loop, computes on the device."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.protocol.request import EmbeddingRequest, Embeddings
from neuron.device.jobs import DeviceRefused, Embedded, EmbedSpec, GenerationFailed, TokenEvent
from neuron.residents import Embedder
from neuron.session.vectors import normalised


class Embedding:
    """One accepted request. ``answer`` waits for it, ``abort`` gives it up."""

    def __init__(
        self, resident: Embedder, request: EmbeddingRequest, request_id: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Tokenize and submit; from any thread. ``loop`` is where ``answer`` will be awaited.

        Raises ApiError: 400 for the request, 503 where waiting helps.
        """
        self._resident = resident
        self._request = request
        self._id = request_id
        self._loop = loop
        self._done: asyncio.Future[TokenEvent] = loop.create_future()
        self._ended = False
        most = resident.dimensions
        if request.dimensions is not None and request.dimensions > most:
            message = f"dimensions is {request.dimensions}, and the vectors of '{request.model}' have {most}"
            raise invalid_request(message, code="invalid_value", param="dimensions")
        inputs = tuple(self._tokens(i, text) for i, text in enumerate(request.inputs))
        try:
            resident.device.embed(resident.info.handle, EmbedSpec(request_id, inputs), self._arrived)
        except DeviceRefused as e:
            if e.retry_after is not None:
                raise unavailable(e.reason, retry_after=e.retry_after) from e
            raise ApiError(503, "api_error", "service_unavailable", e.reason, retry_after=5) from e

    def _tokens(self, index: int, text: str | tuple[int, ...]) -> tuple[int, ...]:
        resident, name = self._resident, self._request.model
        tokens = tuple(resident.tokenizer.encode_text(text)) if isinstance(text, str) else text
        place = "input" if len(self._request.inputs) == 1 else f"input[{index}]"
        if not tokens:
            raise invalid_request(f"'{place}' has no tokens", code="invalid_value", param=place)
        if (largest := max(tokens)) >= resident.vocab:
            message = f"'{place}' has the token {largest}; '{name}' knows 0 to {resident.vocab - 1}"
            raise invalid_request(message, code="invalid_value", param=place)
        longest = min(resident.context, resident.settings.limit.input or resident.context)
        if len(tokens) > longest:
            message = f"'{place}' has {len(tokens)} tokens, and '{name}' takes at most {longest}"
            error = invalid_request(message, code="context_length_exceeded", param=place)
            raise replace(error, extras={"prompt_tokens": len(tokens), "max_tokens": longest})
        return tokens

    def _arrived(self, event: TokenEvent) -> None:
        """Called from the device thread."""
        self._loop.call_soon_threadsafe(self._settle, event)

    def _settle(self, event: TokenEvent) -> None:
        self._ended = True
        if not self._done.done():
            self._done.set_result(event)

    def abort(self) -> None:
        """Free the device from it before its next step. Does nothing once it has ended."""
        if not self._ended:
            self._resident.device.abort(self._id)

    async def answer(self) -> Embeddings:
        """The vectors, cut to ``dimensions`` and of length 1. Raises ApiError 500."""
        event = await self._done
        if isinstance(event, GenerationFailed):
            raise ApiError(500, "api_error", "embedding_failed", event.message)
        assert isinstance(event, Embedded)  # noqa: S101  (an embedding has no other last event)
        vectors = event.vectors
        if self._request.dimensions is not None:
            vectors = normalised(np.ascontiguousarray(vectors[:, : self._request.dimensions]))
        return Embeddings(self._request.model, tuple(map(tuple, vectors.tolist())), event.prompt_tokens)
