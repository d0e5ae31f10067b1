"""Noticing that a client left, while its request waits for something else."""

from __future__ import annotations

import select
from typing import Any

import gevent
from gevent.event import Event

from cortexd.gateway.errors import ClientGone
from cortexd.gateway.upstream import Connection

_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class ClientWatch:
    """Watches a client's socket from the event loop. A client that closes its sending half counts as gone."""

    def __init__(self, client: Any) -> None:
        self.gone = Event()
        self._upstream: Connection | None = None
        self._poll = select.poll()
        self._poll.register(client.fileno(), _ENDED)
        self._watcher: Any = gevent.get_hub().loop.io(client.fileno(), 1)
        self._watcher.start(self._readable)

    def guard(self, upstream: Connection | None) -> None:
        """End ``upstream`` as soon as the client goes: the read that waits there returns at once."""
        self._upstream = upstream
        if upstream is not None and self.gone.is_set():
            upstream.abort()

    def check(self) -> None:
        """Raises ClientGone."""
        if self.gone.is_set():
            raise ClientGone

    def stop(self) -> None:
        """Before the connection serves its next request."""
        self._watcher.stop()
        self._upstream = None

    def _readable(self) -> None:
        # Bytes are the client's next request; the end behind them shows when they are read.
        self._watcher.stop()
        if any(event & _ENDED for _, event in self._poll.poll(0)):
            self.gone.set()
            if self._upstream is not None:
                self._upstream.abort()
