"""A small stand-in for a neuron's control surface, on a real socket, that can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn:
    """``fault``: None, "hung" (never answers), "garbage" or "refuses" (500). ``calls`` are (method, path)."""

    def __init__(self, memory: int = 100, token: str | None = None) -> None:
        self.memory = memory
        self.token = token
        self.fault: str | None = None
        self.load_error: str | None = None
        self.load_s = 0.0
        self.busy: set[str] = set()
        self.models: dict[str, str] = {}
        self.measured: dict[str, int] = {}  # of models in the shape that the bench declares
        self.calls: list[tuple[str, str]] = []
        self.loading_now = 0
        self.most_loading = 0
        self._release = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Also after ``die``: the same port, with nothing loaded."""
        handler = type("Handler", (_Handler,), {"standin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.started_at = time.monotonic()
        self._release.clear()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        if self._server is not None:
            self._release.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.models.clear()

    def count(self, path: str) -> int:
        return sum(1 for _, called in self.calls if called == path)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        match path:
            case "/health":
                models = [
                    {"id": m, "state": s, "in_flight": int(m in self.busy), "queue_depth": 0}
                    for m, s in self.models.items()
                ]
                device = {"name": "cpu-0", "index": 0, "kind": "cpu", "memory_total_bytes": self.memory}
                device |= {"memory_used_bytes": 0, "utilization_pct": None}
                uptime = time.monotonic() - self.started_at
                return 200, {
                    "uptime_secs": uptime,
                    "devices": [device],
                    "models": models,
                    "activation": {"state": "ready"},
                }
            case "/models":
                return 200, [
                    {"id": m, "status": s, "devices": ["cpu-0"]} | self._shape(m) for m, s in self.models.items()
                ]
            case "/discovery":
                return 200, {"hostname": "standin", "devices": []}
            case "/version":
                return 200, {"package_version": "9.9"}
            case "/models/load":
                return self._load(body["model_id"])
            case "/models/unload":
                self.models.pop(body["model_id"], None)
                return 200, {"status": "unloaded"}
        return 404, {"error": {"message": "no such route"}}

    def _shape(self, model: str) -> dict[str, Any]:
        if model not in self.measured:
            return {}
        shape = {"manifest_sha256": "0" * 64, "limit": {"context": 1}, "max_sequences": 1}
        return shape | {"measured_bytes": {"cpu-0": self.measured[model], "cpu-1": None}}

    def _load(self, model: str) -> tuple[int, Any]:
        if self.load_error:
            return 422, {"error": {"message": self.load_error, "type": "api_error", "code": None, "param": None}}
        self.loading_now += 1
        self.most_loading = max(self.most_loading, self.loading_now)
        self.models[model] = "loading"
        time.sleep(self.load_s)
        self.models[model] = "loaded"
        self.loading_now -= 1
        return 200, {"status": "loaded"}


class _Handler(BaseHTTPRequestHandler):
    standin: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        standin = self.standin
        standin.calls.append((self.command, self.path))
        if standin._server is None:
            self.close_connection = True
            return
        if standin.fault == "hung":
            standin._release.wait(20)
            self.close_connection = True
            return
        if standin.token and self.headers["authorization"] != f"Bearer {standin.token}":
            status, answer = 401, {"error": {"message": "no token"}}
        elif standin.fault == "refuses":
            status, answer = 500, {"error": "broken"}
        else:
            status, answer = standin.answer(self.command, self.path, body)
        data = b"<html>" if standin.fault == "garbage" else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Silence."""
