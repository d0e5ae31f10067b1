"""HTTP/1.1 to neurons: a keep-alive pool over gevent sockets, and nothing that a request to a neuron does not need.

Reads have a timeout each, never a total one: a timeout leaves the connection as it was, so that the caller may do
something meanwhile and go on reading.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from gevent import socket
from gevent import ssl as gevent_ssl

CONNECT_TIMEOUT_S = 3.0
# A request that a neuron does not take from the socket for this long is given up.
_SEND_TIMEOUT_S = 30.0
_IDLE_MOST = 128
# Less than a neuron keeps an idle connection (4 s, neuron/http/server.py): it must not close one that is being taken.
_IDLE_AGE_S = 3.0
_HEAD_LIMIT = 64 << 10
_READ = 64 << 10


class UpstreamError(Exception):
    """The neuron did not answer properly. ``sent``: it may have begun to work on the request.

    Not sent on a connection that had rested means: it was closed meanwhile, so a fresh one may do.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Connection:
    """One socket, one request at a time."""

    def __init__(self, endpoint: str, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect. Raises UpstreamError(sent=False)."""
        self.endpoint = endpoint
        parts = urlsplit(endpoint)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/")
        self._buffer = bytearray()
        self._used = False
        self.idle_since = 0.0
        try:
            self._socket = socket.create_connection((host, port), connect_timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                context = gevent_ssl.create_default_context()
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except (OSError, ssl.SSLError) as e:
            raise UpstreamError(f"no connection: {e}", sent=False) from None

    def request(self, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a POST. Raises UpstreamError."""
        lines = [f"POST {self._path}{path} HTTP/1.1", f"Host: {self._host_header}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        try:
            self._socket.settimeout(_SEND_TIMEOUT_S)
            # One segment for the common request, no copy of a large body.
            if len(body) < _READ:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except OSError as e:
            raise UpstreamError(f"the connection broke while the request was sent: {e}", sent=not self._used) from None

    def response(self, timeout_s: float) -> Response:
        """Wait for status and headers. Raises TimeoutError (call again), or UpstreamError."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _HEAD_LIMIT:
                    raise UpstreamError("its header is larger than 64 KiB", sent=True)
                if not self.fill(timeout_s):
                    # A kept connection that ends without a byte was closed before it saw the request.
                    sent = bool(self._buffer) or not self._used
                    raise UpstreamError("the connection ended before an answer", sent=sent)
                continue
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._used = False  # from here on an end is no stale connection
            response = Response(self, head)
            if response.status >= 200:
                return response

    def fill(self, timeout_s: float) -> bool:
        """Read once into the buffer; False at the end. Raises TimeoutError or UpstreamError."""
        try:
            self._socket.settimeout(timeout_s)
            data = self._socket.recv(_READ)
        except TimeoutError:
            raise
        except OSError as e:
            if not self._used or self._buffer:
                raise UpstreamError(f"the connection broke: {e}", sent=True) from None
            return False
        self._buffer += data
        return bool(data)

    @property
    def buffer(self) -> bytearray:
        """What was read and not yet used."""
        return self._buffer

    def rest(self) -> None:
        """The answer is complete: the next request may use the connection."""
        self._used = True
        self.idle_since = time.monotonic()

    def is_stale(self) -> bool:
        """Whether the neuron closed it, or said something unasked, while it rested."""
        if time.monotonic() - self.idle_since > _IDLE_AGE_S:
            return True
        try:
            self._socket.settimeout(0)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def abort(self) -> None:
        """End it now; a read that waits returns as if the neuron had closed. Safe from the hub."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()


class Response:
    """Status, headers (lower-case names) and a body that is read piece by piece."""

    def __init__(self, connection: Connection, head: bytes) -> None:
        self.connection = connection
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not code.isdigit():
            raise UpstreamError("it does not speak HTTP/1.1", sent=True)
        self.status = int(code)
        self.headers = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        tokens = self.header("connection").lower()
        self._keep = "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)
        self._chunked = "chunked" in self.header("transfer-encoding").lower()
        self._left = self._content_length()
        self._chunk_end = False
        self.complete = self._left == 0 and not self._chunked

    def header(self, name: str) -> str:
        """The first value of a header, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    def read(self, timeout_s: float) -> bytes:
        """The next bytes of the body, empty at its end. Raises TimeoutError (call again), or UpstreamError."""
        while not self.complete:
            data = self._decode() if self._chunked else self._take()
            if data or self.complete:
                return data
            if not self.connection.fill(timeout_s):
                if self._left is None and not self._chunked:
                    self.complete, self._keep = True, False
                    return b""
                raise UpstreamError("the connection ended in the middle of the answer", sent=True)
        return b""

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self.complete and self._keep and not self.connection.buffer

    def _content_length(self) -> int | None:
        if self.status in (204, 304):
            return 0
        values = {value for key, value in self.headers if key == "content-length"}
        if self._chunked or not values:
            return 0 if self._chunked else None
        value = values.pop()
        if values or not value.isdigit():
            raise UpstreamError("its Content-Length is not a number", sent=True)
        return int(value)

    def _take(self) -> bytes:
        buffer = self.connection.buffer
        data = bytes(buffer if self._left is None else buffer[: self._left])
        del buffer[: len(data)]
        if self._left is not None:
            self._left -= len(data)
            self.complete = self._left == 0
        return data

    def _decode(self) -> bytes:
        """All whole or partial chunks that are in the buffer. ``_left`` counts what the current chunk still holds."""
        buffer, pieces = self.connection.buffer, []
        left = self._left or 0
        while True:
            if left:
                if not buffer:
                    break
                piece = bytes(buffer[:left])
                del buffer[: len(piece)]
                pieces.append(piece)
                left -= len(piece)
                self._chunk_end = left == 0
                continue
            if self._chunk_end:
                if len(buffer) < 2:
                    break
                if buffer[:2] != b"\r\n":
                    raise UpstreamError("its chunked body is malformed", sent=True)
                del buffer[:2]
                self._chunk_end = False
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > _HEAD_LIMIT:
                    raise UpstreamError("its chunked body is malformed", sent=True)
                break
            left = self._size(bytes(buffer[:end]))
            if left == 0:
                if not self._skip_trailers(end + 2):
                    break
                self.complete = True
                break
            del buffer[: end + 2]
        self._left = left
        return b"".join(pieces)

    def _size(self, line: bytes) -> int:
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF"):
            raise UpstreamError("its chunked body is malformed", sent=True)
        return int(digits, 16)

    def _skip_trailers(self, start: int) -> bool:
        buffer = self.connection.buffer
        if buffer[start : start + 2] == b"\r\n":
            del buffer[: start + 2]
            return True
        end = buffer.find(b"\r\n\r\n", start)
        if end >= 0:
            del buffer[: end + 4]
        return end >= 0


class Pool:
    """Connections that rest between requests, by endpoint. One per worker; greenlets only."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._idle: dict[str, list[Connection]] = {}
        self._connect_timeout_s = connect_timeout_s

    def take(self, endpoint: str) -> Connection:
        """A connection that rests, else a new one. Raises UpstreamError(sent=False)."""
        idle = self._idle.get(endpoint, [])
        while idle:
            connection = idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()
        return Connection(endpoint, self._connect_timeout_s)

    def give_back(self, response: Response) -> None:
        """Keep the connection when its answer was read whole, else close it."""
        connection = response.connection
        idle = self._idle.setdefault(connection.endpoint, [])
        if response.reusable and len(idle) < _IDLE_MOST:
            connection.rest()
            idle.append(connection)
        else:
            connection.close()
