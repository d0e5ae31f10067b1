"""What every resource does with a request: its id, its body, its caller, and errors in OpenAI's shape."""

from __future__ import annotations

import hmac
import json
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import falcon
import falcon.asgi

from cortexd.dialects.openai_chat import encode_error
from cortexd.protocol.errors import ApiError, invalid_request

Receive = Callable[[], Awaitable[dict[str, Any]]]
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_log = logging.getLogger("neuron.http")
# Where the raw ASGI ``receive`` is kept, for those who watch for a client that leaves.
RECEIVE = "neuron.receive"
# Where a request keeps what must be called when it is over, however it ended.
AT_END = "neuron.at_end"
# Open to everybody: a load balancer asks without a token.
_OPEN = ("/health", "/version")


class RequestMiddleware:
    """Gives each request its id, and refuses callers without the token (where one is set)."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        given = req.get_header("X-Request-Id") or ""
        req.context.id = given if _ID.match(given) else uuid.uuid4().hex
        resp.set_header("x-request-id", req.context.id)
        if self._token is None or req.path in _OPEN:
            return
        scheme, _, token = (req.get_header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            raise invalid_request("this neuron wants its fleet's token", code="invalid_api_key", status=401)


async def read_body(req: falcon.asgi.Request, limit: int) -> bytes:
    """The whole body. Raises ApiError 413 above ``limit`` bytes, before reading what is announced as larger."""
    too_large = ApiError(413, "invalid_request_error", "body_too_large", f"the body is larger than {limit} bytes")
    if (req.content_length or 0) > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in req.stream:
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


async def wait_until_gone(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_model_id(req: falcon.asgi.Request, limit: int) -> str:
    """``{"model_id": "…"}``. Raises ApiError 400."""
    try:
        body = json.loads(await read_body(req, limit))
    except ValueError:
        raise invalid_request("the body is not valid JSON", code="malformed_json") from None
    model_id = body.get("model_id") if isinstance(body, dict) else None
    if not isinstance(model_id, str):
        raise invalid_request("the body must be {'model_id': '…'}", code="invalid_type", param="model_id")
    return model_id


def write_error(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ApiError) -> None:
    """Status, headers and body of an error."""
    resp.status = error.status
    resp.media = encode_error(error)
    if error.retry_after is not None:
        resp.set_header("retry-after", str(error.retry_after))


async def on_api_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ApiError, _params: dict[str, Any]
) -> None:
    write_error(req, resp, error)


async def on_http_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    """Falcon's own: no such route, wrong method."""
    status = falcon.http_status_to_code(error.status)
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(status)
    message = error.description or f"{error.title}: {req.method} {req.path}"
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    write_error(req, resp, ApiError(status, "invalid_request_error", code, message))


async def on_crash(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: dict[str, Any]
) -> None:
    """A defect of ours: logged here, told to the client without its insides."""
    _log.error("request %s failed", getattr(req.context, "id", "?"), exc_info=error)
    write_error(req, resp, ApiError(500, "api_error", None, "the neuron failed; its log has the cause"))
