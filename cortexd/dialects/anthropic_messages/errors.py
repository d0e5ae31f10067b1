"""Anthropic's error body. ``code``, ``param`` and extras are further members: clients skip what they do not know."""

from __future__ import annotations

from typing import Any

from cortexd.protocol.errors import ApiError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# Anthropic's word -> OpenAI's, which ApiError bears
_OURS = {
    "api_error": "api_error",
    "overloaded_error": "api_error",
    "timeout_error": "api_error",
    "rate_limit_error": "rate_limit_error",
}
_KNOWN = {"message", "type", "code", "param"}


def encode_error(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """``{"type": "error", "error": {"type", "message", "code", "param", …extras}}``, and ``request_id`` where given."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    inner = dict(error.extras) | {"type": kind, "message": error.message, "code": error.code, "param": error.param}
    body: dict[str, Any] = {"type": "error", "error": inner}
    return body if request_id is None else body | {"request_id": request_id}


def decode_error(body: Any, status: int) -> ApiError:
    """The error in a body of this shape; a body of any other shape becomes a plain one."""
    inner = body.get("error") if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return ApiError(status, "api_error", None, f"the server answered {status}")
    code, param = inner.get("code"), inner.get("param")
    return ApiError(
        status,
        _OURS.get(str(inner.get("type")), "invalid_request_error"),
        None if code is None else str(code),
        str(inner.get("message") or f"the server answered {status}"),
        None if param is None else str(param),
        extras={key: value for key, value in inner.items() if key not in _KNOWN},
    )
