"""The store of a host: ``blobs/<sha256>``, and ``artifacts/<manifest sha256>/`` whose files are links to blobs.

What is in ``blobs`` was verified when it came in. ``partial/`` holds what is on its way, ``locks/`` one file per blob,
so that only one thread of one process fetches it. All of it is safe against several processes and against kill -9.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cortexd.protocol.manifest import Manifest

MANIFEST = "manifest.json"
SCHEME = "sha256:"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_POLL_S = 0.05


class StoreError(Exception):
    """Something that cannot be stored or is not whole; the message names it and what helps."""


class Store:
    """A folder. It is made when something is put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = root / "blobs"
        self.partial = root / "partial"

    def blob(self, sha256: str) -> Path:
        """Where a blob lies, or would."""
        return self.blobs / _checked(sha256)

    def has(self, sha256: str, size: int) -> bool:
        """Whether the blob is there, whole."""
        try:
            return self.blob(sha256).stat().st_size == size
        except OSError:
            return False

    def folder(self, manifest_sha256: str) -> Path:
        """Where an artifact lies, or would."""
        return self.root / "artifacts" / _checked(manifest_sha256)

    def complete(self, manifest_sha256: str) -> bool:
        """Whether the artifact is there. It appears by a rename, so it is never there in part."""
        return (self.folder(manifest_sha256) / MANIFEST).is_file()

    def prepare(self) -> None:
        """Make the folders. Raises OSError."""
        for folder in (self.root, self.blobs, self.partial, self.root / "locks", self.root / "artifacts"):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                self._give_away(folder)

    @contextmanager
    def locked(self, sha256: str, stopped: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Hold the blob's lock, against other threads and processes. Yields False when ``stopped`` before it came."""
        path = self.root / "locks" / _checked(sha256)
        with path.open("a+b") as file:
            self._give_away(path)
            while not stopped():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_POLL_S)
                    continue
                yield True
                return
            yield False

    def publish(self, part: Path, sha256: str) -> None:
        """A file in ``partial`` that was verified becomes a blob."""
        part.chmod(0o644)
        self._give_away(part)
        part.replace(self.blob(sha256))
        _sync_folder(self.blobs)

    def assemble(self, manifest_bytes: bytes) -> Path:
        """The artifact's folder, made of links to its blobs. Raises StoreError while one is missing."""
        manifest = parse_manifest(manifest_bytes)
        digest = hashlib.sha256(manifest_bytes).hexdigest()
        folder = self.folder(digest)
        if self.complete(digest):
            return folder
        self.prepare()
        staging = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            for name, entry in sorted(manifest.files.items()):
                if not self.has(entry.sha256, entry.bytes):
                    raise StoreError(f"blob {entry.sha256} ({name}) is not in {self.blobs}")
                target = staging / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(self.blob(entry.sha256), target, folder / name)
            (staging / MANIFEST).write_bytes(manifest_bytes)
            for path in (staging, *staging.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() else 0o644)
                    self._give_away(path)
            try:
                staging.rename(folder)
            except OSError:
                if not self.complete(digest):  # else another process was faster
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        _sync_folder(folder.parent)
        return folder

    def add(self, source: Path) -> str:
        """Copy an artifact's folder in; the sha256 of its manifest. Raises StoreError if it is not what it says."""
        try:
            manifest_bytes = (source / MANIFEST).read_bytes()
        except OSError as e:
            raise StoreError(f"{source / MANIFEST}: {e.strerror}; is this an artifact's folder?") from None
        manifest = parse_manifest(manifest_bytes)
        self.prepare()
        for name, entry in sorted(manifest.files.items()):
            with self.locked(entry.sha256):
                if not self.has(entry.sha256, entry.bytes):
                    self._copy(source / name, entry.sha256)
        self.assemble(manifest_bytes)
        return hashlib.sha256(manifest_bytes).hexdigest()

    def _copy(self, source: Path, sha256: str) -> None:
        part = self.partial / sha256
        try:
            shutil.copyfile(source, part)
        except OSError as e:
            raise StoreError(f"{source}: {e.strerror or e}") from None
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        if found != sha256:
            part.unlink()
            raise StoreError(f"{source} has sha256 {found}, its manifest says {sha256}; make the artifact again")
        self.publish(part, sha256)

    def _give_away(self, path: Path) -> None:
        """What root makes belongs to whoever the folder around the store belongs to: the neurons write here too."""
        if os.geteuid() == 0:
            owner = self.root.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def parse_manifest(data: bytes) -> Manifest:
    """Raises StoreError for one that cannot be used, or that names files outside of its folder."""
    try:
        manifest = Manifest.from_json(data.decode("utf-8"))
    except ValueError as e:
        raise StoreError(str(e)) from None
    for name, entry in manifest.files.items():
        path = PurePosixPath(name)
        safe = name and not path.is_absolute() and ".." not in path.parts and "\0" not in name and name != MANIFEST
        if not safe or str(path) != name or not isinstance(entry.bytes, int) or entry.bytes < 0:
            raise StoreError(f"manifest.json: {name!r} is no file that an artifact may have")
        if not isinstance(entry.sha256, str) or not _DIGEST.fullmatch(entry.sha256):
            raise StoreError(f"manifest.json: {name!r} has no SHA-256")
    return manifest


def is_digest(text: str) -> bool:
    """Whether this is a SHA-256 in hex."""
    return _DIGEST.fullmatch(text) is not None


def _checked(sha256: str) -> str:
    if not is_digest(sha256):
        raise StoreError(f"{sha256!r} is no SHA-256")
    return sha256


def _link(blob: Path, staged: Path, final: Path) -> None:
    """A hard link; a relative symbolic one where the system forbids that (other owner) or the file has too many."""
    try:
        staged.hardlink_to(blob)
    except OSError:
        staged.symlink_to(os.path.relpath(blob, final.parent))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
