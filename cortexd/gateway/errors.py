"""Errors as clients see them: in the shape of the route's dialect, with the request id in it."""

from __future__ import annotations

import falcon
import orjson

from cortexd.dialects import anthropic_messages
from cortexd.dialects.openai_chat import encode_error
from cortexd.protocol.errors import ApiError, invalid_request

MESSAGES = "/v1/messages"


class ClientGone(Exception):
    """The client closed its connection: nobody is left to answer."""


def error_body(error: ApiError, request_id: str) -> bytes:
    """The JSON body in OpenAI's shape."""
    return orjson.dumps(encode_error(error, request_id))


def is_anthropic(req: falcon.Request) -> bool:
    """Whether a client of Anthropic's API asks. On the catalogue's routes, which are both's, a header tells."""
    if req.path == MESSAGES or req.path.startswith(MESSAGES + "/"):
        return True
    return req.path.startswith("/v1/models") and req.get_header("Anthropic-Version") is not None


def error_event(error: ApiError, request_id: str) -> bytes:
    """The last event of a stream that cannot go on."""
    return b"data: " + error_body(error, request_id) + b"\n\n"


def answer_error(req: falcon.Request, resp: falcon.Response, error: ApiError) -> None:
    """Fill ``resp`` with the error."""
    resp.status = error.status
    resp.content_type = "application/json"
    request_id = req.context.request_id
    if is_anthropic(req):
        resp.data = orjson.dumps(anthropic_messages.encode_error(error, request_id))
    else:
        resp.data = error_body(error, request_id)
    if error.retry_after is not None:
        resp.set_header("Retry-After", str(error.retry_after))


def from_http(error: falcon.HTTPError, method: str, path: str) -> ApiError:
    """What Falcon refused, in our words."""
    status = error.status_code
    if status == 404:
        return invalid_request(f"There is no {path} here. See GET /v1/models.", code="not_found", status=404)
    if status == 405:
        return invalid_request(f"{method} is not allowed on {path}.", code="method_not_allowed", status=405)
    kind = "invalid_request_error" if status < 500 else "api_error"
    return ApiError(status, kind, None, error.description or error.title or "The request was refused.")


INTERNAL = ApiError(500, "api_error", "internal_error", "The gateway failed to answer; its log says why.")
