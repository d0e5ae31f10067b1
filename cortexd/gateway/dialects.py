"""The dialects that clients may speak to this gateway, each with what a neuron is asked instead."""

from __future__ import annotations

from dataclasses import replace

from cortexd.dialects import anthropic_messages, openai_chat, openai_completions, openai_responses, reading
from cortexd.gateway.body import parse_chat_body, parse_embeddings_body
from cortexd.gateway.count import Counted
from cortexd.gateway.errors import MESSAGES
from cortexd.gateway.translate import Inner, Translated
from cortexd.gateway.wire import Dialect
from cortexd.protocol.request import ALL_FEATURES

_CHAT = Inner(
    "/v1/chat/completions", openai_chat.encode_request, openai_chat.StreamDecoder, openai_chat.decode_response
)
# Not as a chat: a template would add words to the prompt.
_TEXT = Inner(
    "/v1/completions",
    openai_completions.encode_request,
    openai_completions.StreamDecoder,
    openai_completions.decode_response,
)

# Chat's members -> the dialect's, where they differ.
_MESSAGES_WORDS = {
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
}
_RESPONSES_WORDS = {
    "logprobs": "top_logprobs",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}


# What a neuron lacks it refuses itself: another one may have it. So nothing is held back here.


def _messages(raw: bytes) -> Translated:
    request = anthropic_messages.parse_request(raw, features=ALL_FEATURES)
    return Translated(
        request,
        _CHAT,
        words=_MESSAGES_WORDS,
        prefix="msg_",
        encoder=lambda _, request_id: anthropic_messages.StreamEncoder(request_id),
        whole=anthropic_messages.encode_response,
    )


def _responses(raw: bytes) -> Translated:
    body = reading.load(raw)
    if body.get("store") is True:
        raise reading.unsupported("store", "can only be false: responses are not stored yet")
    if body.get("previous_response_id") is not None:
        raise reading.unsupported("previous_response_id", "is not supported: responses are not stored yet")
    parsed = openai_responses.parse_request(body, features=ALL_FEATURES)
    request = replace(parsed, store=False, echo=parsed.echo | {"store": False})
    return Translated(
        request.chat,
        _CHAT,
        words=_RESPONSES_WORDS,
        prefix="resp_",
        encoder=lambda started, request_id: openai_responses.StreamEncoder(
            request, started=started, request_id=request_id
        ),
        whole=lambda events: openai_responses.encode_response(events, request),
    )


def _completions(raw: bytes) -> Translated:
    request = openai_completions.parse_request(raw, features=ALL_FEATURES)
    return Translated(
        request,
        _TEXT,
        words={},
        prefix="cmpl-",
        encoder=lambda _, request_id: openai_completions.StreamEncoder(
            include_usage=request.include_usage, request_id=request_id
        ),
        whole=openai_completions.encode_response,
    )


ROUTES = {
    "/v1/chat/completions": Dialect("openai_chat", parse_chat_body, verbatim=True),
    "/v1/embeddings": Dialect("openai_embeddings", parse_embeddings_body, verbatim=True),
    "/v1/completions": Dialect("openai_completions", _completions),
    "/v1/responses": Dialect("openai_responses", _responses),
    MESSAGES: Dialect("anthropic_messages", _messages),
    MESSAGES + "/count_tokens": Dialect("anthropic_count_tokens", Counted),
}
