"""One file over HTTP, whatever it takes: continued where it broke off, checked, and stored only if it is right."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

CHUNK = 1 << 20
TIMEOUT_S = 30.0
# Attempts in a row that bring not one byte (one that brings some starts the count anew): together about 6 s of pauses.
ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_MANIFEST_LIMIT = 16 << 20
_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO)


class TransferError(Exception):
    """A file that did not come; the message says why. ``passing``: another try later may succeed."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """A token is for the host that it was given for, not for the one that this one sends us to."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


@dataclass(frozen=True, slots=True)
class Remote:
    """A folder on a web server. ``headers`` go with each request; ``proxies``: use those of the environment.

    ``attempts``: how many in a row may bring not one byte.
    """

    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxies: bool = True
    attempts: int = ATTEMPTS

    def open(self, name: str, offset: int = 0) -> Any:
        """The response for a file from ``offset`` on. Raises OSError or http.client.HTTPException."""
        url = f"{self.base.rstrip('/')}/{quote(name)}"
        if urlsplit(url).scheme not in ("http", "https"):
            raise TransferError(f"{url}: only http and https are fetched")
        # bytes as they are: a compressed answer could not be continued
        headers = {"Accept-Encoding": "identity", **self.headers}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        handlers: list[Any] = [_SafeRedirects()]
        if not self.proxies:
            handlers.append(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the scheme was checked)
        return urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S)


def read_small(remote: Remote, name: str, stopped: threading.Event) -> bytes:
    """A small file, such as a manifest. Raises TransferError."""

    def attempt() -> bytes:
        with remote.open(name) as response:
            data: bytes = response.read(_MANIFEST_LIMIT + 1)
        if len(data) > _MANIFEST_LIMIT:
            raise TransferError(f"{name} is larger than {_MANIFEST_LIMIT} bytes; is this an artifact's folder?")
        return data

    for number in range(remote.attempts):
        try:
            return attempt()
        except (OSError, http.client.HTTPException, ValueError) as e:
            problem = failure(f"{remote.base}/{name}", e)
            if not problem.passing or number == remote.attempts - 1 or stopped.is_set():
                raise problem from e
        _pause(number, stopped)
    raise AssertionError  # the loop returns or raises


def download(
    remote: Remote,
    name: str,
    part: Path,
    size: int,
    sha256: str,
    got: Callable[[int], None],
    stopped: threading.Event,
) -> None:
    """Make ``part`` the whole file, going on with what it holds. ``got`` is told how many bytes are new (or gone).

    Raises TransferError; bytes that are wrong are deleted, bytes that may be right are kept for the next time.
    """
    url = f"{remote.base}/{name}"
    kept = _size(part)
    if kept > size:
        part.unlink()
        kept = 0
    got(kept)
    empty_handed = 0
    while (have := _size(part)) < size:
        if stopped.is_set():
            raise TransferError(f"{name}: stopped", passing=True)
        try:
            _append(remote, name, part, have, size, got, stopped)
            problem = TransferError(f"{url}: the connection ended after {_size(part)} of {size} bytes", passing=True)
        except (OSError, http.client.HTTPException, ValueError) as e:
            problem = failure(url, e)
            if have and isinstance(e, urllib.error.HTTPError) and e.code == 416:  # nothing there to go on with
                part.unlink(missing_ok=True)
                got(-have)
        if not problem.passing:
            raise problem
        empty_handed = 0 if _size(part) > have else empty_handed + 1
        if empty_handed >= remote.attempts:
            raise problem
        if _size(part) < size:
            _pause(empty_handed, stopped)
    if not part.exists():
        part.touch()  # an empty file has nothing to fetch
    found = _digest(part)
    if found == sha256:
        return
    part.unlink()
    got(-size)
    if kept:  # the fault may lie with what was left from an earlier time: once more, from the start
        download(remote, name, part, size, sha256, got, stopped)
        return
    raise TransferError(f"{url}: what came has sha256 {found}, the manifest says {sha256}; it was deleted")


def _append(
    remote: Remote, name: str, part: Path, have: int, size: int, got: Callable[[int], None], stopped: threading.Event
) -> None:
    with remote.open(name, have) as response, part.open("ab") as file:
        if have and response.status != 206:  # a server that knows no ranges begins anew
            file.truncate(0)
            got(-have)
            have = 0
        elif have and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            raise TransferError(f"{remote.base}/{name}: the server sent another range than it was asked for")
        _copy(response, file, size - have, f"{remote.base}/{name}", got, stopped)


def _copy(
    response: Any, file: IO[bytes], wanted: int, url: str, got: Callable[[int], None], stopped: threading.Event
) -> None:
    while not stopped.is_set():
        data = response.read1(CHUNK)
        if not data:
            break
        if len(data) > wanted:
            raise TransferError(f"{url}: longer than the manifest says")
        file.write(data)
        wanted -= len(data)
        got(len(data))
    file.flush()
    os.fsync(file.fileno())


def failure(url: str, error: Exception) -> TransferError:
    """What to tell about an error of the network or the disk."""
    if isinstance(error, TransferError):
        return error
    if isinstance(error, urllib.error.HTTPError):
        hints = {401: "a token is needed", 403: "access is denied", 404: "there is no such file"}
        passing = error.code in (408, 416, 429) or error.code >= 500
        return TransferError(f"{url}: status {error.code}: {hints.get(error.code, error.reason)}", passing)
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    # a file that cannot be written has a name; trouble of the network has none
    disk = getattr(error, "filename", None) is not None or getattr(error, "errno", None) in _DISK
    return TransferError(f"{url}: {reason}", passing=not disk)


def _pause(number: int, stopped: threading.Event) -> None:
    stopped.wait(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**number))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
