"""Fetching an artifact from a real server that behaves, breaks off, lies, or is slow."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortexd.artifacts import download
from cortexd.artifacts.download import Remote, TransferError
from cortexd.artifacts.fetch import Progress, fetch
from cortexd.artifacts.store import Store
from tests.cortexd.artifacts.make import make_artifact
from tests.cortexd.artifacts.server import FolderServer, serving

MIB = 1 << 20
SIZES = {"model.onnx": 5 * MIB, "sub/weights.bin": 3 * MIB, "tokenizer.json": 2000, "empty.txt": 0}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(download, "_LONGEST_PAUSE_S", 0.02)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    make_artifact(tmp_path / "origin", SIZES)
    return tmp_path / "origin"


@pytest.fixture
def server(origin: Path) -> Iterator[FolderServer]:
    with serving(origin) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "artifacts")


def same(folder: Path, origin: Path) -> bool:
    names = [*SIZES, "manifest.json"]
    return all((folder / n).read_bytes() == (origin / n).read_bytes() for n in names)


def test_everything_arrives_and_each_byte_is_sent_once(server: FolderServer, store: Store, origin: Path) -> None:
    progress = Progress()
    folder = fetch(store, Remote(server.url), progress=progress)

    assert same(folder, origin)
    assert folder.parent == store.root / "artifacts"
    assert {n: server.sent.get(n, 0) for n in SIZES} == SIZES
    assert (progress.bytes_done, progress.bytes_total) == (sum(SIZES.values()),) * 2
    assert list(store.partial.iterdir()) == []
    assert (folder / "model.onnx").stat().st_nlink == 2  # the same bytes as the blob, not a copy


def test_what_is_in_the_store_is_not_asked_for(server: FolderServer, store: Store) -> None:
    folder = fetch(store, Remote(server.url))
    asked = len(server.requests)

    assert fetch(store, Remote(server.url), folder.name) == folder
    assert len(server.requests) == asked


def test_connections_that_break_off_are_continued_where_they_broke(
    server: FolderServer, store: Store, origin: Path
) -> None:
    server.cut["model.onnx"] = [MIB + 17, 0, 5, 2 * MIB]
    progress = Progress()
    folder = fetch(store, Remote(server.url), progress=progress)

    assert same(folder, origin)
    assert server.sent["model.onnx"] == SIZES["model.onnx"]
    ranges = [h.get("Range") for p, h in server.requests if p == "model.onnx"]
    assert ranges == [None, f"bytes={MIB + 17}-", f"bytes={MIB + 17}-", f"bytes={MIB + 22}-", f"bytes={3 * MIB + 22}-"]
    assert progress.bytes_done == progress.bytes_total


def test_a_server_without_ranges_starts_anew_and_the_count_stays_right(
    server: FolderServer, store: Store, origin: Path
) -> None:
    server.ranges = False
    server.cut["model.onnx"] = [MIB]
    progress = Progress()

    assert same(fetch(store, Remote(server.url), progress=progress), origin)
    assert progress.bytes_done == progress.bytes_total


def test_corrupt_bytes_are_refused_and_deleted(server: FolderServer, store: Store, origin: Path) -> None:
    good = (origin / "model.onnx").read_bytes()
    server.content["model.onnx"] = good[:-1] + bytes([good[-1] ^ 1])

    with pytest.raises(TransferError, match=r"model\.onnx: what came has sha256 .* it was deleted") as caught:
        fetch(store, Remote(server.url))

    assert not caught.value.passing
    assert not any((store.root / "artifacts").iterdir())
    digest = hashlib.sha256(good).hexdigest()
    assert not store.blob(digest).exists()
    assert not (store.partial / digest).exists()

    del server.content["model.onnx"]
    assert same(fetch(store, Remote(server.url)), origin)


def test_a_partial_file_that_is_wrong_is_fetched_from_the_start(
    server: FolderServer, store: Store, origin: Path
) -> None:

    store.prepare()
    digest = hashlib.sha256((origin / "model.onnx").read_bytes()).hexdigest()
    (store.partial / digest).write_bytes(b"x" * MIB)

    assert same(fetch(store, Remote(server.url)), origin)


def test_a_manifest_other_than_the_wanted_one_is_refused(server: FolderServer, store: Store) -> None:
    with pytest.raises(TransferError, match=r"has sha256 .* wanted is"):
        fetch(store, Remote(server.url), "0" * 64)

    assert not store.complete("0" * 64)


@pytest.mark.parametrize(
    ("status", "attempts", "said", "passing"),
    [(404, 1, "there is no such file", False), (403, 1, "access is denied", False), (503, 5, "status 503", True)],
)
def test_a_refusal_is_told_and_only_passing_ones_are_tried_again(
    server: FolderServer, store: Store, status: int, attempts: int, said: str, passing: bool
) -> None:
    server.status = lambda path: status if path == "tokenizer.json" else None

    with pytest.raises(TransferError, match=said) as caught:
        fetch(store, Remote(server.url))

    assert caught.value.passing is passing
    assert [p for p, _ in server.requests].count("tokenizer.json") == attempts


def test_nobody_there_is_a_passing_failure(store: Store) -> None:
    with pytest.raises(TransferError, match="refused") as caught:
        fetch(store, Remote("http://127.0.0.1:9", attempts=2))

    assert caught.value.passing


def test_a_file_outside_of_the_artifact_is_refused(server: FolderServer, store: Store, origin: Path) -> None:
    text = (origin / "manifest.json").read_text().replace('"tokenizer.json"', '"../../../evil"')
    server.content["manifest.json"] = text.encode()

    with pytest.raises(TransferError, match="is no file that an artifact may have"):
        fetch(store, Remote(server.url))


def test_many_threads_fetch_each_blob_once(tmp_path: Path, store: Store) -> None:
    """Three artifacts that share their weights, each wanted by two threads at the same time."""
    origins = tmp_path / "origins"
    digests = []
    for n in range(3):
        make_artifact(origins / str(n), {"weights.bin": 4 * MIB})
        digests.append(make_artifact(origins / str(n), {"weights.bin": 4 * MIB, f"own-{n}": 1000 + n}))
    failures: list[BaseException] = []

    def work(n: int) -> None:
        try:
            fetch(store, Remote(f"{server.url}/{n}"), digests[n])
        except BaseException as e:
            failures.append(e)

    with serving(origins) as server:
        threads = [threading.Thread(target=work, args=(n % 3,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert failures == []
    assert sum(v for k, v in server.sent.items() if k.endswith("weights.bin")) == 4 * MIB
    assert all(store.complete(d) for d in digests)
    assert len(list(store.blobs.iterdir())) == 4


CHILD = """
import sys
from pathlib import Path
from cortexd.artifacts.download import Remote
from cortexd.artifacts.fetch import fetch
from cortexd.artifacts.store import Store
print(fetch(Store(Path(sys.argv[1])), Remote(sys.argv[2])).name, flush=True)
"""


def child(store: Store, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store.root), url], stdout=subprocess.PIPE, text=True, env=os.environ
    )


def test_two_processes_fetch_each_blob_once(server: FolderServer, store: Store, origin: Path) -> None:
    children = [child(store, server.url) for _ in range(2)]
    names = {c.communicate(timeout=60)[0].strip() for c in children}

    assert len(names) == 1
    assert same(store.folder(names.pop()), origin)
    assert {n: server.sent.get(n, 0) for n in SIZES} == SIZES


def test_after_kill_9_in_the_middle_the_rest_is_fetched(server: FolderServer, store: Store, origin: Path) -> None:

    digest = hashlib.sha256((origin / "model.onnx").read_bytes()).hexdigest()
    server.cut["model.onnx"] = [2 * MIB, *([0] * 1000)]  # then nothing more comes
    first = child(store, server.url)
    part = store.partial / digest
    until = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == 2 * MIB):
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    server.cut.clear()

    assert same(fetch(store, Remote(server.url)), origin)
    assert server.sent["model.onnx"] == SIZES["model.onnx"]


def test_a_stop_ends_it_soon_and_keeps_what_came(server: FolderServer, store: Store, origin: Path) -> None:
    server.gate = threading.Event()
    stopped = threading.Event()
    told: list[TransferError] = []

    def work() -> None:
        try:
            fetch(store, Remote(server.url), stopped=stopped)
        except TransferError as e:
            told.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    stopped.set()
    server.gate.set()
    thread.join(10)

    assert not thread.is_alive()
    assert told and told[0].passing
    assert same(fetch(store, Remote(server.url)), origin)


def test_a_token_is_not_handed_on_to_another_host(server: FolderServer, store: Store, origin: Path) -> None:
    with serving(origin) as other:
        server.location = lambda path: f"{other.url}/{path}" if path != "manifest.json" else None
        folder = fetch(store, Remote(server.url, headers={"Authorization": "Bearer hush"}))

    assert same(folder, origin)
    assert all(h.get("Authorization") == "Bearer hush" for _, h in server.requests)
    assert other.requests
    assert not any("Authorization" in h for _, h in other.requests)


def test_other_schemes_are_not_followed(store: Store) -> None:
    with pytest.raises(TransferError, match="only http and https"):
        fetch(store, Remote("file:///etc"))


def test_a_full_disk_is_no_passing_failure(server: FolderServer, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(TransferError, match="No space left on device") as caught:
        fetch(store, Remote(server.url))

    assert not caught.value.passing
