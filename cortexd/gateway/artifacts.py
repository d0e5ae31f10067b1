"""``GET /artifacts/<manifest sha256>/<file>`` on the metrics address: artifacts for neurons on other hosts.

Only what the live generation names, and of that only the files of its manifest. The API's address does not serve them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

import falcon
import gevent
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cortexd.artifacts.store import MANIFEST, Store, StoreError, is_digest, parse_manifest
from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.store.artifacts import live_artifact

P = ParamSpec("P")
T = TypeVar("T")

_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sha256: str
    size: int


class Artifacts:
    """Disk and database are touched in real threads only, so that a slow disk holds up no other request."""

    def __init__(self, engine: Engine, state_dir: Path) -> None:
        self._engine = engine
        self._store = Store(state_dir / "artifacts")

    def on_get(self, req: falcon.Request, resp: falcon.Response, digest: str, name: str) -> None:
        """The file, or the part that ``Range`` asks for."""
        found = _in_thread(self._find, digest, name)
        resp.set_header("ETag", f'"{found.sha256}"')
        resp.set_header("Accept-Ranges", "bytes")
        resp.set_header("Cache-Control", "immutable")
        resp.content_type = "application/octet-stream"
        if f'"{found.sha256}"' in (req.get_header("If-None-Match") or ""):
            resp.status = falcon.HTTP_304
            return
        start, end = _range(req, found)
        if (start, end) != (0, found.size):
            resp.status = falcon.HTTP_206
            resp.set_header("Content-Range", f"bytes {start}-{end - 1}/{found.size}")
        resp.content_length = end - start
        if req.method == "GET":
            resp.stream = _pieces(_in_thread(_open, found.path), start, end)

    on_head = on_get

    def _find(self, digest: str, name: str) -> _File:
        try:
            location = live_artifact(self._engine, digest) if is_digest(digest) else None
        except SQLAlchemyError as e:
            raise unavailable("the control database is away", retry_after=5, code="database_unavailable") from e
        if location is None:
            raise _missing(f"the live generation names no artifact {digest}")
        folder = self._store.folder(digest)
        if not self._store.complete(digest):
            if location.startswith(("sha256:", "builtin:")):
                raise _missing(f"the artifact {digest} is not in this host's store; `cortexd model pull` brings it")
            folder = Path(location)
        try:
            data = (folder / MANIFEST).read_bytes()
            manifest = parse_manifest(data)
        except (OSError, StoreError) as e:
            raise _missing(f"{folder} cannot be read: {e}") from e
        if hashlib.sha256(data).hexdigest() != digest:
            raise _missing(f"{folder} has changed since the fleet was compiled; compile and apply again")
        if name == MANIFEST:
            return _File(folder / MANIFEST, digest, len(data))
        entry = manifest.files.get(name)
        if entry is None:
            raise _missing(f"the artifact {digest} has no file {name!r}")
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as e:
            raise _missing(f"{path}: {e.strerror}") from e
        if size != entry.bytes:
            raise _missing(f"{path} has {size} bytes, its manifest says {entry.bytes}")
        return _File(path, entry.sha256, size)


def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Wait in this greenlet for a real thread. gevent logs what is raised there, so refusals come back as values."""

    def work() -> T | ApiError:
        try:
            return function(*args, **kwargs)
        except ApiError as e:
            return e

    result: T | ApiError = gevent.get_hub().threadpool.apply(work)
    if isinstance(result, ApiError):
        raise result
    return result


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as e:
        raise _missing(f"{path}: {e.strerror}") from e


def _range(req: falcon.Request, found: _File) -> tuple[int, int]:
    """From and to of what is asked for: one range, or everything for whatever else stands there."""
    wanted = _RANGE.fullmatch(req.get_header("Range") or "")
    if wanted is None or (req.get_header("If-Range") or f'"{found.sha256}"') != f'"{found.sha256}"':
        return 0, found.size
    start = int(wanted[1])
    end = min(int(wanted[2]) + 1, found.size) if wanted[2] else found.size
    if start >= end:
        raise falcon.HTTPRangeNotSatisfiable(found.size)
    return start, end


def _pieces(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            data = _in_thread(file.read, min(_CHUNK, end - start))
            if not data:
                return
            start += len(data)
            yield data


def _missing(message: str) -> ApiError:
    return invalid_request(message, code="artifact_not_found", status=404)
