"""One error value for every layer; dialects give it their shape, HTTP layers its status and headers."""

from __future__ import annotations

from dataclasses import dataclass, field


# Not frozen, for Python itself writes the traceback of an exception into it; hashed by identity, as exceptions are.
@dataclass(eq=True)
class ApiError(Exception):
    """A failure that a client is told about.

    ``status`` is the HTTP status before the first byte. ``type`` and ``code`` are OpenAI's words (see
    docs/reference/http-api.md). ``retry_after`` is in seconds, and set only where waiting helps. ``extras`` are further
    members of the error body (for example ``max_tokens``), never secrets.
    """

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after: int | None = None
    extras: dict[str, object] = field(default_factory=dict)

    __hash__ = Exception.__hash__

    def __str__(self) -> str:
        return self.message


def invalid_request(message: str, *, code: str | None = None, param: str | None = None, status: int = 400) -> ApiError:
    """The client's mistake: nothing changes by trying again."""
    return ApiError(status, "invalid_request_error", code, message, param)


def unavailable(message: str, *, retry_after: int, code: str = "service_unavailable") -> ApiError:
    """Not now: waiting ``retry_after`` seconds may help."""
    return ApiError(503, "api_error", code, message, retry_after=retry_after)
