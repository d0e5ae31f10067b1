"""A server of the three wires on a free port: answers come from a list, requests are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cortexd.dialects import anthropic_messages, openai_chat, openai_responses
from cortexd.dialects.openai_responses import ResponsesRequest
from cortexd.protocol.events import (
    Event,
    Finished,
    PartEnded,
    PartStarted,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolArgumentsDelta,
    Usage,
)
from cortexd.protocol.request import ChatRequest


def says(*texts: str, thought: str = "", reason: Any = "stop") -> list[Event]:
    """A whole answer of text."""
    events: list[Event] = [Started("r", "m", 1)]
    if thought:
        events += [PartStarted(0, "reasoning"), ReasoningDelta(thought), PartEnded(0)]
    at = 1 if thought else 0
    events += [PartStarted(at, "text"), *(TextDelta(t) for t in texts), PartEnded(at)]
    return [*events, Finished(reason, Usage(10, 5))]


def calls(*asked: tuple[str, dict[str, Any]]) -> list[Event]:
    """A whole answer of tool calls."""
    events: list[Event] = [Started("r", "m", 1)]
    for i, (name, arguments) in enumerate(asked):
        text = json.dumps(arguments)
        events += [PartStarted(i, "tool_call", f"call-{i}", name), ToolArgumentsDelta(text[:3])]
        events += [ToolArgumentsDelta(text[3:]), PartEnded(i)]
    return [*events, Finished("tool_calls", Usage(10, 5))]


@dataclass
class Fake:
    """``answers`` in order; an Exception in place of an answer is status 401, None after events hangs, bytes
    are sent as they are."""

    answers: list[Any] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    models: Sequence[str] = ("m-one", "m-two")
    port: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def encoder(path: str) -> Any:
    if path.endswith("/messages"):
        return anthropic_messages.StreamEncoder()
    if path.endswith("/responses"):
        return openai_responses.StreamEncoder(ResponsesRequest(ChatRequest("m", ())))
    return openai_chat.StreamEncoder(include_usage=True)


@contextmanager
def serving() -> Iterator[Fake]:
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _plain(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._plain(200, {"data": [{"id": m} for m in fake.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fake.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = fake.answers.pop(0)
            if isinstance(answer, Exception):
                self._plain(401, {"error": {"message": str(answer), "type": "authentication_error"}})
                return
            self.send_response(200)
            self.end_headers()
            if isinstance(answer, bytes):
                self.wfile.write(answer)
                return
            wire = encoder(self.path)
            for event in answer:
                if event is None:
                    self._hang()
                    return
                self.wfile.write(wire.encode(event))
                self.wfile.flush()

        def _hang(self) -> None:
            # comments until the other side is gone: what a cancelled request looks like from here
            while not fake.released.wait(0.05):
                try:
                    self.wfile.write(b": still here\n\n")
                    self.wfile.flush()
                except OSError:
                    fake.hung_up.set()
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
