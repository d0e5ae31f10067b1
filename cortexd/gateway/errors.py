"""Errors as clients see them: OpenAI's shape with the request id in it, before a stream began and after."""

from __future__ import annotations

import falcon
import orjson

from cortexd.dialects.openai_chat import encode_error
from cortexd.protocol.errors import ApiError, invalid_request


class ClientGone(Exception):
    """The client closed its connection: nobody is left to answer."""


def error_body(error: ApiError, request_id: str) -> bytes:
    """The JSON body."""
    body = encode_error(error)
    inner = body["error"]
    if isinstance(inner, dict):
        inner["request_id"] = request_id
    return orjson.dumps(body)


def error_event(error: ApiError, request_id: str) -> bytes:
    """The last event of a stream that cannot go on."""
    return b"data: " + error_body(error, request_id) + b"\n\n"


def answer_error(resp: falcon.Response, error: ApiError, request_id: str) -> None:
    """Fill ``resp`` with the error."""
    resp.status = error.status
    resp.content_type = "application/json"
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
