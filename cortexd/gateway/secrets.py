"""Keys whose secret lies outside the database: from the environment, a file or a systemd credential to its SHA-256.

Read by the snapshot's thread, never by a request. A secret is held no longer than it takes to hash it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from cortexd.routing.snapshot import KeyRef, KeyView

log = logging.getLogger("cortexd.gateway")

_SIZE_LIMIT = 64 << 10


class SecretError(Exception):
    """A secret that cannot be had; the message says why, without a byte of it."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a reference gave: ``mark`` changes when it has to be read again."""

    mark: object
    digest: str | None
    problem: str | None


class Secrets:
    """Resolves references, and reads again what changed. ``environ`` defaults to the process's own."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._read: dict[str, _Read] = {}
        self.problems: dict[str, str] = {}

    def resolve(self, refs: tuple[KeyRef, ...], hashed: Mapping[str, KeyView]) -> dict[str, KeyView]:
        """Hash -> key for all references that work. ``problems`` then says why the others (by key id) do not.

        Cheap when nothing changed: one ``stat`` for each file. ``hashed`` are the keys that need none of this: a secret
        belongs to one key only, and to those first. Each change of a problem is logged once.
        """
        found: dict[str, KeyView] = {}
        problems: dict[str, str] = {}
        for ref in refs:
            read = self._current(ref.ref)
            if read.digest is None:
                problems[ref.key.key_id] = read.problem or "unknown"
            elif (other := hashed.get(read.digest) or found.get(read.digest)) is not None:
                problems[ref.key.key_id] = f"{ref.ref} holds the same secret as key {other.key_id}"
            else:
                found[read.digest] = ref.key
        self._read = {ref.ref: self._read[ref.ref] for ref in refs}
        self._tell(problems, {ref.key.key_id for ref in refs})
        return found

    def _current(self, ref: str) -> _Read:
        mark: object = None
        try:
            source, path = self._locate(ref)
            if path is not None:
                stat = path.stat()
                if not S_ISREG(stat.st_mode):  # a pipe would hold up the thread
                    raise SecretError(f"{ref} is not a regular file")
                mark = (path, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._read.get(ref)
            if known is not None and known.digest is not None and known.mark == mark:
                return known
            secret = source.strip() if path is None else _content(path)
            if not secret:
                raise SecretError(f"{ref} is empty")
            read = _Read(mark, sha256(secret).hexdigest(), None)
        except SecretError as e:
            read = _Read(None, None, str(e))
        except (OSError, ValueError) as e:  # ValueError: no path at all
            read = _Read(None, None, f"{ref} cannot be read: {getattr(e, 'strerror', None) or type(e).__name__}")
        self._read[ref] = read
        return read

    def _locate(self, ref: str) -> tuple[bytes, Path | None]:
        """The secret itself, or the file that holds it."""
        kind, _, rest = ref.partition(":")
        if kind == "env":
            value = self._environ.get(rest)
            if value is None:
                raise SecretError(f"{ref} is not set in the gateway's environment")
            return os.fsencode(value), None
        if kind == "file":
            return b"", Path(rest)
        if kind == "credential":
            folder = self._environ.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise SecretError(f"{ref} needs systemd's LoadCredential=, and $CREDENTIALS_DIRECTORY is not set")
            if "/" in rest or rest in ("", ".", ".."):
                raise SecretError(f"{ref} is no name of a credential")
            return b"", Path(folder) / rest
        raise SecretError(f"{kind}: is no kind of secret that this version knows")

    def _tell(self, problems: dict[str, str], keys: set[str]) -> None:
        before, self.problems = self.problems, problems
        for key, problem in problems.items():
            if before.get(key) != problem:
                log.warning("key %s does not work: %s", key, problem)
        for key in before.keys() & keys - problems.keys():
            log.warning("key %s works again", key)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise SecretError(f"{path} is larger than {_SIZE_LIMIT >> 10} KiB, so it is no key")
    return content.strip()
