"""One request to one endpoint: the client side of its dialect over HTTP, as a stream of events."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import orjson

from cortexd.acp.config import ConfigError, Endpoint
from cortexd.dialects import anthropic_messages, openai_chat, openai_responses
from cortexd.dialects.decoding import Decoder
from cortexd.protocol.errors import ApiError
from cortexd.protocol.events import Event, Failed
from cortexd.protocol.request import ChatRequest

PATHS = {"openai-chat": "/chat/completions", "openai-responses": "/responses", "anthropic-messages": "/messages"}
ANTHROPIC_VERSION = "2023-06-01"
# A cold model may take minutes to load before its first byte.
TIMEOUT = httpx.Timeout(600, connect=10)
LIST_TIMEOUT = httpx.Timeout(5, connect=3)
MAX_ERROR_BYTES = 1 << 20


class UpstreamError(Exception):
    """An endpoint that cannot be used or that failed; the message names it and never holds its key."""


def api_key(endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key. Raises ConfigError where the variable or file that should hold it does not."""
    if endpoint.api_key_env:
        if not (key := environment.get(endpoint.api_key_env, "").strip()):
            raise ConfigError(f"endpoint {endpoint.name!r}: the variable {endpoint.api_key_env} is not set")
    elif endpoint.api_key_file:
        try:
            key = endpoint.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            why = e.strerror if isinstance(e, OSError) else "not text"
            raise ConfigError(f"endpoint {endpoint.name!r}: api_key_file {endpoint.api_key_file}: {why}") from e
        if not key:
            raise ConfigError(f"endpoint {endpoint.name!r}: api_key_file {endpoint.api_key_file} is empty")
    else:
        return None
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"endpoint {endpoint.name!r}: its key has characters that no header can carry")
    return key


class Upstream:
    """All endpoints over one pool of connections. For one event loop."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(timeout=TIMEOUT)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def stream(self, endpoint: Endpoint, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The events of the answer, up to ``Finished``. Raises UpstreamError for every other end, and ConfigError."""
        key = api_key(endpoint)
        try:
            body = _encode(endpoint, request)
        except ApiError as e:
            raise UpstreamError(f"endpoint {endpoint.name!r}: {e}") from e
        decoder = _decoder(endpoint)
        url = endpoint.base_url + PATHS[endpoint.wire_api]
        try:
            async with self._http.stream(
                "POST", url, content=orjson.dumps(body), headers=_headers(endpoint, key)
            ) as answer:
                if answer.status_code != 200:
                    raise _failed(endpoint, key, await _error(endpoint, answer))
                async for piece in answer.aiter_bytes():
                    for event in decoder.feed(piece):
                        if isinstance(event, Failed):
                            raise _failed(endpoint, key, event.error)
                        yield event
                for event in decoder.close():
                    if isinstance(event, Failed):
                        raise _failed(endpoint, key, event.error)
                    yield event
        except httpx.HTTPError as e:
            raise UpstreamError(f"endpoint {endpoint.name!r}: {url}: {_why(e)}") from e

    async def models(self, endpoint: Endpoint) -> list[str]:
        """What the endpoint lists, in its order. Raises UpstreamError and ConfigError."""
        key = api_key(endpoint)
        url = endpoint.base_url + "/models"
        try:
            answer = await self._http.get(url, headers=_headers(endpoint, key), timeout=LIST_TIMEOUT)
        except httpx.HTTPError as e:
            raise UpstreamError(f"endpoint {endpoint.name!r}: {url}: {_why(e)}") from e
        try:
            body: Any = orjson.loads(answer.content)
        except ValueError:
            body = None
        if answer.status_code != 200:
            raise _failed(endpoint, key, openai_chat.decode_error(body, answer.status_code))
        listed = body.get("data") if isinstance(body, dict) else None
        if not isinstance(listed, list):
            raise UpstreamError(f"endpoint {endpoint.name!r}: {url} does not answer with a list of models")
        return [m["id"] for m in listed if isinstance(m, dict) and isinstance(m.get("id"), str)]


def _encode(endpoint: Endpoint, request: ChatRequest) -> dict[str, Any]:
    match endpoint.wire_api:
        case "openai-chat":
            # OpenAI itself refuses the words that servers of open models have added
            own = urlsplit(endpoint.base_url).hostname == "api.openai.com"
            return openai_chat.encode_request(request, extensions=not own).body
        case "openai-responses":
            return openai_responses.encode_request(request).body
        case "anthropic-messages":
            return anthropic_messages.encode_request(request).body


def _decoder(endpoint: Endpoint) -> Decoder:
    match endpoint.wire_api:
        case "openai-chat":
            return openai_chat.StreamDecoder()
        case "openai-responses":
            return openai_responses.StreamDecoder()
        case "anthropic-messages":
            return anthropic_messages.StreamDecoder()


def _headers(endpoint: Endpoint, key: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if endpoint.wire_api == "anthropic-messages":
        headers["anthropic-version"] = ANTHROPIC_VERSION
        return headers | ({"x-api-key": key} if key else {})
    return headers | ({"authorization": f"Bearer {key}"} if key else {})


async def _error(endpoint: Endpoint, answer: httpx.Response) -> ApiError:
    content = b""
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > MAX_ERROR_BYTES:
            break
    try:
        body: Any = orjson.loads(content)
    except ValueError:
        body = None
    decode = anthropic_messages.decode_error if endpoint.wire_api == "anthropic-messages" else openai_chat.decode_error
    return decode(body, answer.status_code)


def _failed(endpoint: Endpoint, key: str | None, error: ApiError) -> UpstreamError:
    # servers like to repeat the key that they refuse
    message = error.message.replace(key, "***") if key else error.message
    wait = "" if error.retry_after is None else f" (try again in {error.retry_after} s)"
    return UpstreamError(f"endpoint {endpoint.name!r}: {error.status}: {message[:2000]}{wait}")


def _why(error: httpx.HTTPError) -> str:
    return str(cast(Any, error)) or type(error).__name__
