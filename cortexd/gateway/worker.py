"""gunicorn's gevent worker without the monkey patch, with TLS on one address, and with JSON for what is no HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import orjson
from gevent import socket
from gunicorn import util
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.ggevent import GeventWorker

from cortexd.gateway.arbiter import say_ready
from cortexd.gateway.tls import shake_hands

# A connection may be accepted this long before its request is here.
_JUST_NOW_S = 1.0
_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large", 501: "Not Implemented"}


class Worker(GeventWorker):  # type: ignore[misc]
    """Threads stay real here: the ledger's writer must not run on the event loop."""

    sockets: list[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # greenlets of connections that wait for their next request, and since when
        self._waiting: dict[gevent.Greenlet[..., Any], float] = {}
        self._said_ready = False

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Around the wait for a request: at most ``keepalive`` seconds, and known to be idle meanwhile."""
        waiting = gevent.getcurrent()
        self._waiting[waiting] = time.monotonic()
        try:
            with gevent.Timeout(self.cfg.keepalive, False):
                yield
        finally:
            del self._waiting[waiting]

    def notify(self) -> None:
        """Called each second, from the event loop. A worker that stops closes connections that clients may keep for
        minutes, but not those that it accepted just now: their request is on its way."""
        if not self._said_ready and self.app.knows_fleet():
            say_ready(self)
            self._said_ready = True
        super().notify()
        if not self.alive:
            before = time.monotonic() - _JUST_NOW_S
            for waiting, since in list(self._waiting.items()):
                if since < before:
                    waiting.kill(NoMoreData, block=False)  # as if the client had closed it

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """A connection, in its own greenlet."""
        context = self.app.tls_for(listener.getsockname()[1])
        if context is not None:
            client = shake_hands(context, client)
        if client is not None:
            super().handle(listener, client, addr)

    def patch(self) -> None:
        """Give the listening sockets to gevent, and nothing else."""
        self.sockets = [socket.socket(s.FAMILY, socket.SOCK_STREAM, fileno=s.sock.detach()) for s in self.sockets]

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """A request that could not be parsed. What the application raised never comes here: Falcon answers it."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = 400
        if isinstance(exc, LimitRequestLine):
            status = 414
        elif isinstance(exc, LimitRequestHeaders):
            status = 431
        elif isinstance(exc, UnsupportedTransferCoding):
            status = 501
        self.log.warning("a request was no valid HTTP: %s", type(exc).__name__)
        message = f"The request is not valid HTTP ({type(exc).__name__})."
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "malformed_http"}
        body = orjson.dumps({"error": error})
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode() + body)
        except OSError:
            self.log.debug("the client did not wait for the error")
