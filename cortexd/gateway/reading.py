"""Reading a request's body, bounded in size and in patience."""

from __future__ import annotations

import falcon
import gevent

from cortexd.protocol.errors import ApiError, invalid_request

_STEP = 256 << 10
_STEP_TIMEOUT_S = 60.0
# A client that still sends would see a reset instead of its 413: this many times the limit is read and dropped.
_DROP_TIMES = 4


def read_body(req: falcon.Request, limit: int) -> bytes:
    """The whole body. Raises ApiError: 413 beyond ``limit`` bytes, 415 when compressed, 408 when the client stalls."""
    encoding = (req.get_header("Content-Encoding") or "identity").lower()
    if encoding != "identity":
        message = f"Request bodies must not be compressed (Content-Encoding: {encoding})."
        raise invalid_request(message, code="unsupported_media_type", status=415)
    declared = req.content_length
    if declared is not None and declared > limit:
        if declared <= limit * _DROP_TIMES:
            _read(req, declared, keep=0)
        raise _too_large(limit)
    body = _read(req, limit * _DROP_TIMES, keep=limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _read(req: falcon.Request, most: int, keep: int) -> bytes:
    """Read up to ``most`` bytes, keep the first ``keep`` and one more that tells that there were more."""
    source = req.env["wsgi.input"]
    pieces: list[bytes] = []
    size = 0
    while size < most:
        with gevent.Timeout(_STEP_TIMEOUT_S, False):
            piece = source.read(min(_STEP, most - size))
            if not piece:
                break
            if size <= keep:
                pieces.append(piece)
            size += len(piece)
            continue
        raise invalid_request("The request body did not arrive in time.", code="request_timeout", status=408)
    return b"".join(pieces)[: keep + 1]


def _too_large(limit: int) -> ApiError:
    return invalid_request(
        f"The request body is larger than {limit >> 20} MiB (body_limit_mb).", code="request_too_large", status=413
    )
