"""``POST /v1/chat/completions`` and ``POST /v1/completions``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Protocol

import falcon.asgi

from cortexd.dialects.sse import COMMENT as KEEP_ALIVE
from cortexd.protocol.events import Event
from cortexd.protocol.request import ChatRequest, CompletionRequest, Feature
from neuron.generate import FEATURES, Generation
from neuron.http.requests import AT_END, RECEIVE, Receive, read_body, wait_until_gone
from neuron.residents import Residents


class Encoder(Protocol):
    """The server side of a stream."""

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; may be empty."""
        ...


class Dialect(Protocol):
    """A package of ``cortexd.dialects`` in which clients ask for text."""

    def parse_request(self, body: bytes, *, features: frozenset[Feature]) -> ChatRequest | CompletionRequest:
        """Raises ApiError 400."""
        ...

    def encode_response(self, events: list[Event]) -> dict[str, Any]:
        """Raises the ApiError of a request that failed."""
        ...

    def StreamEncoder(self, *, include_usage: bool) -> Encoder:
        """For one stream."""
        ...


class GenerateResource:
    """Streams or answers, in a dialect. Whoever hangs up frees the place on the device at once."""

    def __init__(self, dialect: Dialect, residents: Residents, body_limit: int, keepalive_interval_s: float) -> None:
        self._dialect = dialect
        self._residents = residents
        self._body_limit = body_limit
        self._interval = keepalive_interval_s

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        request = self._dialect.parse_request(await read_body(req, self._body_limit), features=FEATURES)
        resident = self._residents.chatter(request.model)
        created, loop = int(time.time()), asyncio.get_running_loop()
        # rendering and tokenizing a long prompt takes a while: on a worker thread, not on the event loop
        generation = await asyncio.to_thread(Generation, resident, request, req.context.id, created, loop)
        # a client may be gone before the server asks for the first byte; then nobody iterates, and nothing below runs
        req.scope[AT_END] = generation.abort
        receive: Receive = req.scope[RECEIVE]
        if not request.stream:
            events: list[Event] = []
            async for event in _watch(generation, receive, None):
                if event is not None:
                    events.append(event)
            # a client that left gets nothing, and no one reads what is put here
            resp.media = self._dialect.encode_response(events) if events and generation.ended else {}
            return
        metered = req.get_header("X-Cortexd-Meter") == "1"
        resp.content_type = "text/event-stream"
        resp.set_header("cache-control", "no-cache")
        resp.set_header("x-accel-buffering", "no")
        encoder = self._dialect.StreamEncoder(include_usage=request.include_usage or metered)
        resp.stream = _encode(_watch(generation, receive, self._interval), encoder)


async def _encode(events: AsyncGenerator[Event | None], encoder: Encoder) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(events) as watched:
        async for event in watched:
            if data := KEEP_ALIVE if event is None else encoder.encode(event):
                yield data


async def _watch(generation: Generation, receive: Receive, interval: float | None) -> AsyncGenerator[Event | None]:
    """The events; None after each ``interval`` seconds without one; an early end when the client leaves."""
    events = generation.events()
    left = asyncio.create_task(wait_until_gone(receive))
    coming: asyncio.Future[Event] = asyncio.ensure_future(anext(events))
    try:
        while True:
            both: set[asyncio.Future[Any]] = {coming, left}
            done, _ = await asyncio.wait(both, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
            if coming in done:
                try:
                    event = coming.result()
                except StopAsyncIteration:
                    return
                coming = asyncio.ensure_future(anext(events))
                yield event
            elif left in done:
                return
            else:
                yield None
    finally:
        generation.abort()
        left.cancel()
        coming.cancel()
