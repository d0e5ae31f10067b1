"""The HTTP client against a socket that says exactly what a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from socket import create_server, socket

import pytest

from cortexd.gateway.upstream import Connection, Pool, UpstreamError


def serve(*answers: list[bytes], pause_s: float = 0.0) -> str:
    """One connection per answer; its pieces are sent one by one, then the connection ends."""
    server = create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            for pieces in answers:
                client, _ = server.accept()
                with client:
                    client.recv(65536)
                    for piece in pieces:
                        client.sendall(piece)
                        time.sleep(pause_s)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def ask(endpoint: str) -> tuple[int, bytes]:
    connection = Connection(endpoint)
    connection.request("/x", [("A", "b")], b"{}")
    response = connection.response(5)
    body = b""
    while piece := response.read(5):
        body += piece
    assert response.complete
    connection.close()
    return response.status, body


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (CHUNKED + b"5\r\nhello\r\nA;ext=1\r\n, world...\r\n0\r\n\r\n", b"hello, world..."),
        (CHUNKED + b"1\r\nx\r\n0\r\nTrailer: t\r\nMore: m\r\n\r\n", b"x"),
    ],
)
def test_every_framing_is_read_whole_however_it_arrives(raw: bytes, expected: bytes) -> None:
    whole = [raw]
    bytewise = [raw[i : i + 1] for i in range(len(raw))]

    assert ask(serve(whole)) == (200, expected)
    assert ask(serve(bytewise)) == (200, expected)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
        CHUNKED + b"-1\r\nx",
        CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_broken_answer_is_an_error_and_never_a_short_body(raw: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        ask(serve([raw]))

    assert caught.value.sent


def test_a_timeout_leaves_the_answer_readable() -> None:
    connection = Connection(serve([b"HTTP/1.1 200 ", b"OK\r\nContent-Length: 4\r\n\r\nab", b"cd"], pause_s=0.3))
    connection.request("/", [], b"")
    timeouts = 0

    def patiently(step: Callable[[], object]) -> object:
        nonlocal timeouts
        while True:
            try:
                return step()
            except TimeoutError:
                timeouts += 1

    response = patiently(lambda: connection.response(0.1))
    body = b"".join(bytes(patiently(lambda: response.read(0.1))) for _ in range(2))  # type: ignore[attr-defined, call-overload]

    assert body == b"abcd"
    assert timeouts >= 2


def test_only_a_whole_answer_returns_its_connection_to_the_pool() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    endpoint = serve([whole, b"", b""], [whole], pause_s=0.2)
    pool = Pool()
    first = pool.take(endpoint)
    first.request("/", [], b"")
    response = first.response(5)
    while response.read(5):
        pass
    pool.give_back(response)

    again = pool.take(endpoint)
    assert again is first
    pool.give_back(response)
    time.sleep(0.8)  # the other side closed it meanwhile

    assert pool.take(endpoint) is not first


def test_a_port_that_nobody_listens_on_was_not_sent_to() -> None:
    endpoint = serve([b""])
    with pytest.raises(UpstreamError):
        ask(endpoint)
    time.sleep(0.2)

    with pytest.raises(UpstreamError) as caught:
        ask(endpoint)

    assert not caught.value.sent


def test_a_neuron_that_accepts_no_connection_is_given_up_after_the_declared_time() -> None:
    with create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as held:
        address = server.getsockname()
        for _ in range(4):  # more than its queue holds, so that the next one waits
            waiting = held.enter_context(socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        began = time.monotonic()
        with pytest.raises(UpstreamError) as refused:
            Pool(connect_timeout_s=0.3).take(f"http://127.0.0.1:{address[1]}")

    assert not refused.value.sent
    assert 0.2 < time.monotonic() - began < 2
