"""Counting a prompt's tokens: the neuron renders and counts, and nothing is generated or billed."""

from __future__ import annotations

import orjson

from cortexd.dialects import anthropic_messages, openai_chat
from cortexd.gateway.wire import Outflow, Whole
from cortexd.protocol.errors import ApiError
from cortexd.protocol.request import ALL_FEATURES


class Counted:
    """A request of ``/v1/messages/count_tokens``. Its body for the neuron is that of the message it asks about."""

    def __init__(self, raw: bytes) -> None:
        """Raises ApiError 400."""
        request = anthropic_messages.parse_count_tokens(raw, features=ALL_FEATURES)
        encoded = openai_chat.encode_request(request)
        self.model = request.model
        self.stream = False
        self.output: tuple[str, int] | None = None
        self.path = "/tokenize"
        self.task = "chat"
        self.ignored = (*request.ignored, *encoded.dropped)
        self._body = encoded.body

    def named(self, refusal: ApiError) -> ApiError:
        """Nothing that can be refused here has another name."""
        return refusal

    def for_model(self, model_id: str) -> bytes:
        """The body for a neuron that serves ``model_id``."""
        return orjson.dumps(self._body | {"model": model_id})

    def outflow(self, request_id: str, interval_s: float) -> Outflow:
        """A count is one number."""
        raise TypeError("a count is not streamed")

    def whole(self, body: bytes) -> Whole:
        """The dialect's answer. Raises ValueError where the neuron's is none."""
        try:
            count = orjson.loads(body)["count"]
        except (ValueError, LookupError, TypeError):
            count = None
        if isinstance(count, bool) or not isinstance(count, int):
            raise ValueError("no count of tokens")
        return Whole(orjson.dumps(anthropic_messages.encode_count(count)), None, None, None)
