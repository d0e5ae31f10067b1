"""A web server for a folder that knows ranges, counts what it sends, and fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class FolderServer:
    """``cut``: bytes after which the next answers to ranges of a file end, one entry per answer. ``sent``: by path."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.sent: dict[str, int] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.cut: dict[str, list[int]] = {}
        self.ranges = True
        self.status: Callable[[str], int | None] = lambda _path: None
        self.location: Callable[[str], str | None] = lambda _path: None
        self.content: dict[str, bytes] = {}
        self.gate: threading.Event | None = None
        self.extra: dict[str, str] = {}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path).lstrip("/")
        with self._lock:
            self.requests.append((path, dict(request.headers)))
            cuts = self.cut.get(path, [])
            cut = cuts.pop(0) if cuts else None
        if self.gate is not None:
            self.gate.wait(10)
        status, location = self.status(path), self.location(path)
        file = self.folder / path
        if location:
            self._plain(request, 302, {"Location": location})
            return
        if status or (path not in self.content and not file.is_file()):
            self._plain(request, status or 404, {})
            return
        data = self.content[path] if path in self.content else file.read_bytes()
        start = 0
        if self.ranges and (wanted := request.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self._plain(request, 416, {})
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        body = data[start:]
        request.send_header("Content-Length", str(len(body)))
        for name, value in self.extra.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        part = body if cut is None else body[:cut]
        request.wfile.write(part)
        with self._lock:
            self.sent[path] = self.sent.get(path, 0) + len(part)
        if cut is not None:
            request.close_connection = True

    def _plain(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[FolderServer]:
    server = FolderServer(folder, port)
    with running(server):
        yield server


@contextmanager
def running(server: FolderServer) -> Iterator[None]:
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join(5)
