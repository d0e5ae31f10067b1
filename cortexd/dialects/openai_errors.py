"""The error body of OpenAI's routes, which all its dialects share."""

from __future__ import annotations

from typing import Any

from cortexd.protocol.errors import ApiError


def encode_error(error: ApiError, request_id: str | None = None) -> dict[str, Any]:
    """``{"error": {"message", "type", "code", "param", …extras}}``, and in it ``request_id`` where given."""
    body = {"message": error.message, "type": error.type, "code": error.code, "param": error.param}
    named = {} if request_id is None else {"request_id": request_id}
    return {"error": dict(error.extras) | body | named}


def decode_error(body: Any, status: int) -> ApiError:
    """The error in a body of this shape; a body of any other shape becomes a plain one."""
    inner = body.get("error") if isinstance(body, dict) else None
    if isinstance(inner, str) and inner:  # a form that some servers use
        return ApiError(status, "api_error", None, inner)
    if not isinstance(inner, dict):
        return ApiError(status, "api_error", None, f"the server answered {status}")
    known = {"message", "type", "code", "param"}
    code, param = inner.get("code"), inner.get("param")
    return ApiError(
        status,
        str(inner.get("type") or "api_error"),
        None if code is None else str(code),
        str(inner.get("message") or f"the server answered {status}"),
        None if param is None else str(param),
        extras={key: value for key, value in inner.items() if key not in known},
    )
