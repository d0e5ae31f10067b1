"""Noticing that a client left, while its request waits for something else."""

from __future__ import annotations

import select
from typing import Any

import gevent
from gevent.event import Event

from cortexd.gateway.errors import ClientGone
from cortexd.gateway.upstream import Connection

_LOOK_AGAIN_S = 0.25
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class ClientWatch:
    """Watches a client's socket from the event loop. A client that closes its sending half counts as gone."""

    def __init__(self, client: Any) -> None:
        self.gone = Event()
        self._upstream: Connection | None = None
        self._poll = select.poll()
        self._poll.register(client.fileno(), _ENDED)
        loop = gevent.get_hub().loop
        self._watcher: Any = loop.io(client.fileno(), 1)
        self._watcher.start(self._readable)
        self._timer: Any = loop.timer(_LOOK_AGAIN_S, _LOOK_AGAIN_S)

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
        self._timer.stop()
        self._upstream = None

    def _readable(self) -> None:
        # Bytes: the client's next request, or TLS that says goodbye. The end behind them has no event of its own.
        self._watcher.stop()
        self._look()
        if not self.gone.is_set():
            self._timer.start(self._look)

    def _look(self) -> None:
        if any(event & _ENDED for _, event in self._poll.poll(0)):
            self._timer.stop()
            self.gone.set()
            if self._upstream is not None:
                self._upstream.abort()
