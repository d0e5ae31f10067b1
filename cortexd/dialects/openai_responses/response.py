"""A plain answer: what the stream's encoder holds when its last event is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cortexd.dialects.openai_responses.request import ResponsesRequest
from cortexd.dialects.openai_responses.stream import StreamEncoder
from cortexd.protocol.events import Event, Failed, Finished


def encode_response(events: Iterable[Event], request: ResponsesRequest) -> dict[str, Any]:
    """The ``response`` object. Raises the ApiError of a stream that failed, ValueError without an end."""
    encoder = StreamEncoder(request)
    for event in events:
        if isinstance(event, Failed):
            raise event.error
        encoder.encode(event)
        if isinstance(event, Finished):
            return encoder.response
    raise ValueError("the events have no end")
