"""A small OpenAI-compatible HTTP server in place of a neuron, with faults on demand. Standard library, threads."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server does with a chat request; change it between requests."""

    words: tuple[str, ...] = ("one", "two", "three", "four", "five")
    step_s: float = 0.0
    first_byte_s: float = 0.0
    status: int = 200
    body: bytes | None = None
    die_after: int | None = None  # break the connection after this many words (0: before any byte)
    usage: bool = True
    keep_alive: bool = True


@dataclass
class Seen:
    """One request as it arrived. ``broken``: the other side left before the answer was whole."""

    path: str
    headers: dict[str, str]
    body: bytes
    port: int
    broken: threading.Event = field(default_factory=threading.Event)


class FakeNeuron:
    """Use as a context manager; ``url`` is its base."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.seen: list[Seen] = []
        self.connections: set[socket.socket] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> FakeNeuron:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every connection and refuse new ones, as a killed process does."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _handler(neuron: FakeNeuron) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            neuron.connections.add(self.connection)

        def finish(self) -> None:
            neuron.connections.discard(self.connection)
            super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {k.lower(): v for k, v in self.headers.items()}
            seen = Seen(self.path, headers, body, self.client_address[1])
            neuron.seen.append(seen)
            b = neuron.behaviour
            try:
                self._answer(json.loads(body), headers, b)
            except OSError:
                seen.broken.set()
                self.close_connection = True
            if not b.keep_alive:
                self.close_connection = True  # without a word: the pool finds a stale connection

        def _answer(self, request: dict[str, Any], headers: dict[str, str], b: Behaviour) -> None:
            deadline = time.monotonic() + b.first_byte_s
            while time.monotonic() < deadline:
                time.sleep(0.01)
                self._raise_if_left()
            if b.die_after == 0:
                self._die()
            if b.body is not None or b.status != 200:
                self._send(
                    b.status, b.body or b'{"error":{"message":"out of order","type":"api_error","code":"broken"}}'
                )
            elif request.get("stream"):
                self._stream(request, b, headers.get("x-cortexd-meter") == "1")
            else:
                self._send(200, json.dumps(completion(request["model"], b), indent=1).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Upstream", "yes")
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, request: dict[str, Any], b: Behaviour, metered: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for count, event in enumerate(stream_events(request["model"], b, usage=metered and b.usage)):
                if b.die_after is not None and count > b.die_after:
                    self._die()
                # two HTTP chunks per event: nobody may take a chunk for an event
                for part in (event[:7], event[7:]):
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    self.wfile.flush()
                deadline = time.monotonic() + b.step_s
                while time.monotonic() < deadline:
                    time.sleep(0.005)
                    self._raise_if_left()
            self.wfile.write(b"0\r\n\r\n")

        def _raise_if_left(self) -> None:
            self.connection.setblocking(False)
            try:
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionAbortedError("the gateway left")
            except BlockingIOError:
                pass
            finally:
                self.connection.setblocking(True)

        def _die(self) -> None:
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("on purpose")

    return Handler


USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4}}


def completion(model: str, b: Behaviour) -> dict[str, Any]:
    """The plain answer."""
    message = {"role": "assistant", "content": " ".join(b.words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": USAGE,
    }


def stream_events(model: str, b: Behaviour, *, usage: bool) -> list[bytes]:
    """The streamed answer, event by event."""

    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return b"data: " + json.dumps(head | {"choices": choices} | more).encode() + b"\n\n"

    def delta(d: dict[str, Any], finish: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": d, "finish_reason": finish}])

    events = [
        delta({"role": "assistant", "content": ""}),
        *(delta({"content": w + " "}) for w in b.words),
        delta({}, "stop"),
    ]
    if usage:
        events.append(chunk([], usage=USAGE))
    return [*events, b"data: [DONE]\n\n"]
