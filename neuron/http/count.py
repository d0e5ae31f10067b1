"""``POST /tokenize``: how long a chat request's prompt is, without computing it."""

from __future__ import annotations

import asyncio

import falcon.asgi

from cortexd.dialects import openai_chat
from neuron.generate import FEATURES, chat_tokens
from neuron.http.requests import read_body
from neuron.residents import Residents


class CountResource:
    """The body is that of a chat request; the count is what its answer would state as ``prompt_tokens``."""

    def __init__(self, residents: Residents, body_limit: int) -> None:
        self._residents = residents
        self._body_limit = body_limit

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer with ``count``, and with the model's context as ``max_model_len``."""
        request = openai_chat.parse_request(await read_body(req, self._body_limit), features=FEATURES)
        resident = self._residents.chatter(request.model)
        tokens = await asyncio.to_thread(chat_tokens, resident, request)
        resp.media = {"count": len(tokens), "max_model_len": resident.context}
