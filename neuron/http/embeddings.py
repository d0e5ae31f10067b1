"""``POST /v1/embeddings``."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import falcon.asgi

from cortexd.dialects.openai_embeddings import encode_response, parse_request
from cortexd.protocol.request import Embeddings
from neuron.embed import Embedding
from neuron.http.requests import AT_END, RECEIVE, read_body, wait_until_gone
from neuron.residents import Residents


class EmbeddingsResource:
    """Answers with vectors. Whoever hangs up takes the rest of the work off the device."""

    def __init__(self, residents: Residents, body_limit: int) -> None:
        self._residents = residents
        self._body_limit = body_limit

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        request = parse_request(await read_body(req, self._body_limit))
        resident = self._residents.embedder(request.model)
        loop = asyncio.get_running_loop()
        # tokenizing thousands of texts takes a while: on a worker thread, not on the event loop
        embedding = await asyncio.to_thread(Embedding, resident, request, req.context.id, loop)
        req.scope[AT_END] = embedding.abort
        answer: asyncio.Task[Embeddings] = asyncio.create_task(embedding.answer())
        left = asyncio.create_task(wait_until_gone(req.scope[RECEIVE]))
        try:
            await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                # writing down thousands of vectors takes a while too
                resp.data = await asyncio.to_thread(_encoded, answer.result(), request.encoding)
                resp.content_type = "application/json"
        finally:
            answer.cancel()
            left.cancel()


def _encoded(answer: Embeddings, encoding: Literal["float", "base64"]) -> bytes:
    return json.dumps(encode_response(answer, encoding), separators=(",", ":")).encode()
