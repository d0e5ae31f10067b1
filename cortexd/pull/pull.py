"""What each kind of source takes to be pulled. Blocks; the caller shows ``progress`` and may set ``stopped``."""

from __future__ import annotations

import base64
import netrc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cortexd.artifacts.download import Remote, TransferError
from cortexd.artifacts.fetch import Progress, fetch
from cortexd.artifacts.lockfile import Locked, LockError, read_lock, record
from cortexd.artifacts.store import Store, StoreError

# Makes an artifact in the folder (2) of the checkpoint in the folder (1), in a precision. Raises PullError.
Export = Callable[[Path, Path, str], None]


class PullError(Exception):
    """A source that cannot be pulled; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is in the store now. ``locked`` is None for folders, which need no lock."""

    folder: Path
    locked: Locked | None


@dataclass(slots=True)
class Puller:
    """``update``: take what the source is now, whatever the lock says. ``report`` is told each step in words."""

    store: Store
    lock: Path
    export: Export
    update: bool
    progress: Progress
    stopped: threading.Event
    report: Callable[[str], None]

    def pull(self, source: str, precision: str | None) -> Pulled:
        """Raises PullError."""
        kind, _, rest = source.partition(":")
        try:
            if kind == "builtin":
                raise PullError(f"{source} ships with cortexd; there is nothing to pull")
            if kind == "path":
                return Pulled(self.store.folder(self.store.add(Path(rest))), None)
            known = None if self.update else self._known(source, precision)
            if known is not None and self.store.complete(known.manifest_sha256):
                return Pulled(self.store.folder(known.manifest_sha256), known)
            if kind == "hf":
                return self._hub(source, rest, precision, known)
            remote = Remote(source, _netrc(source))
            self.report(f"fetching {source}")
            folder = self.fetch(remote, known)
            return self._done(source, precision, folder, "", known)
        except (StoreError, LockError) as e:
            raise PullError(str(e)) from e
        except OSError as e:
            raise PullError(f"{e.filename or self.store.root}: {e.strerror or e}") from e

    def fetch(self, remote: Remote, known: Locked | None) -> Path:
        """The artifact of a web server's folder. Raises PullError."""
        wanted = known.manifest_sha256 if known else None
        try:
            return fetch(self.store, remote, wanted, self.progress, self.stopped)
        except TransferError as e:
            hint = ""
            if wanted is not None and "wanted is" in str(e):
                hint = f" ({self.lock} names that; --update takes what is there now)"
            elif e.passing:
                hint = " (the same command goes on where this one stopped)"
            raise PullError(f"{e}{hint}") from e

    def _hub(self, source: str, rest: str, precision: str | None, known: Locked | None) -> Pulled:
        from cortexd.pull import hub

        repository, _, revision = rest.partition("@")
        found = hub.look_up(repository, (known.resolved if known else "") or revision or "main")
        if hub.is_artifact(found, self.stopped):
            self.report(f"fetching {repository} at {found.commit[:12]}")
            return self._done(source, precision, self.fetch(found.remote, known), found.commit, known)
        self.report(f"downloading the checkpoint {repository} at {found.commit[:12]}")
        checkpoint = hub.checkpoint(found)
        self.store.prepare()
        out = self.store.partial / f"export-{found.commit[:12]}-{precision or 'fp32'}"
        self.report(f"exporting it in {precision or 'fp32'}")
        try:
            self.export(checkpoint, out, precision or "fp32")
            folder = self.store.folder(self.store.add(out))
        finally:
            _remove(out)
        return self._done(source, precision, folder, found.commit, known)

    def _known(self, source: str, precision: str | None) -> Locked | None:
        entries = read_lock(self.lock)
        return next((e for e in entries if (e.source, e.precision) == (source, precision or "")), None)

    def _done(self, source: str, precision: str | None, folder: Path, resolved: str, known: Locked | None) -> Pulled:
        locked = Locked(source, precision or "", folder.name, resolved)
        if known is not None and known.manifest_sha256 != locked.manifest_sha256:
            raise PullError(
                f"{source} became {folder.name}, and {self.lock} names {known.manifest_sha256}: other versions of the "
                "tools export other bytes. --update takes the new one; or copy the artifact from where it was made"
            )
        record(self.lock, locked)
        return Pulled(folder, locked)


def _netrc(url: str) -> dict[str, str]:
    """The header for a host that ~/.netrc knows. Raises PullError."""
    try:
        found = netrc.netrc().authenticators(urlsplit(url).hostname or "")
    except FileNotFoundError:
        return {}
    except (OSError, netrc.NetrcParseError) as e:
        raise PullError(f"~/.netrc cannot be read: {getattr(e, 'strerror', None) or getattr(e, 'msg', e)}") from None
    if found is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{found[0]}:{found[2]}".encode()).decode()}


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
