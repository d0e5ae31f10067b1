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
    call: tuple[str, str] | None = None  # after the words: a tool's name and arguments
    cut_at: int | None = None  # break the connection after this many bytes of a stream
    comments: int = 0  # signs of life before the first event, one per step


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
            elif self.path == "/tokenize":
                self._send(200, json.dumps({"count": USAGE["prompt_tokens"], "max_model_len": 4096}).encode())
            elif request.get("stream"):
                self._stream(request, b, headers.get("x-cortexd-meter") == "1")
            else:
                made = text_completion if self.path == "/v1/completions" else completion
                self._send(200, json.dumps(made(request["model"], b), indent=1).encode())

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
            made = text_events if self.path == "/v1/completions" else stream_events
            events = [b": keep-alive\n\n"] * b.comments + made(request["model"], b, usage=metered and b.usage)
            left = b.cut_at
            for count, event in enumerate(events):
                if b.die_after is not None and count > b.die_after:
                    self._die()
                if left is not None:
                    event, left = event[:left], left - len(event[:left])
                    self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n" if event else b"")
                    if left == 0:
                        self._die()
                    continue
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
    message: dict[str, Any] = {"role": "assistant", "content": " ".join(b.words)}
    if b.call is not None:
        function = {"name": b.call[0], "arguments": b.call[1]}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if b.call else "stop"}
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
        *map(delta, call_deltas(b)),
        delta({}, "tool_calls" if b.call else "stop"),
    ]
    if usage:
        events.append(chunk([], usage=USAGE))
    return [*events, b"data: [DONE]\n\n"]


def call_deltas(b: Behaviour) -> list[dict[str, Any]]:
    """A tool call, its arguments in two pieces."""
    if b.call is None:
        return []
    name, arguments = b.call
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (arguments[:5], arguments[5:])]
    return [{"tool_calls": [call]} for call in (first, *pieces)]


def text_completion(model: str, b: Behaviour) -> dict[str, Any]:
    """The plain answer of a text completion."""
    choice = {"index": 0, "text": " ".join(b.words), "finish_reason": "stop", "logprobs": None}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
    return head | {"choices": [choice], "usage": USAGE}


def text_events(model: str, b: Behaviour, *, usage: bool) -> list[bytes]:
    """The streamed answer of a text completion."""
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
    texts = [(w + " ", None) for w in b.words] + [("", "stop")]
    chunks: list[dict[str, Any]] = [
        head | {"choices": [{"index": 0, "text": text, "finish_reason": finish}]} for text, finish in texts
    ]
    if usage:
        chunks.append(head | {"choices": [], "usage": USAGE})
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]
