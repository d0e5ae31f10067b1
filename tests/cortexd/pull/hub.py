"""A stand-in for the hub: revisions, and the files of commits with the headers that its client wants."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.cortexd.artifacts.server import FolderServer


class Hub(FolderServer):
    """Repositories lie at FOLDER/ORG/NAME/resolve/COMMIT/. ``private``: those that want ``token``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.revisions: dict[tuple[str, str], str] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.token = "hf_test_token"

    def put(self, repository: str, revision: str, commit: str) -> Path:
        """The folder of a commit, which ``revision`` means from now on."""
        self.revisions[repository, revision] = self.revisions[repository, commit] = commit
        folder = self.folder / repository / "resolve" / commit
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = request.path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._revision(request, "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
            return
        if self._refused(request, "/".join(parts[:2])):
            return
        file = self.folder / request.path.strip("/")
        self.extra = {}
        if file.is_file():
            self.extra = {"X-Repo-Commit": parts[3], "ETag": f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"'}
        super()._answer(request)

    def _revision(self, request: BaseHTTPRequestHandler, repository: str, revision: str) -> None:
        self.requests.append((request.path.strip("/"), dict(request.headers)))
        if self._refused(request, repository):
            return
        commit = self.revisions.get((repository, revision))
        if commit is None:
            known = any(r == repository for r, _ in self.revisions)
            code = "RevisionNotFound" if known else "RepoNotFound"
            self._plain(request, 404, {"X-Error-Code": code, "X-Error-Message": "not found"})
            return
        folder = self.folder / repository / "resolve" / commit
        names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        body = json.dumps({"id": repository, "sha": commit, "siblings": [{"rfilename": n} for n in names]}).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _refused(self, request: BaseHTTPRequestHandler, repository: str) -> bool:
        allowed = request.headers.get("Authorization") == f"Bearer {self.token}"
        if repository in self.gated and not allowed:
            self._plain(request, 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})
        elif repository in self.private and not allowed:
            self._plain(request, 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})
        else:
            return False
        return True
