"""Artifacts of the live generation, served on the metrics address by a real gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from cortexd import models as t
from cortexd.artifacts.download import Remote, TransferError
from cortexd.artifacts.fetch import fetch
from cortexd.artifacts.store import Store
from tests.cortexd.artifacts.make import make_artifact
from tests.cortexd.gateway.conftest import MODEL, Gateway, gateways

SIZES = {"model.onnx": (5 << 20) + 3, "sub/weights.bin": 1 << 20, "empty": 0}


@dataclass
class Served:
    gateway: Gateway
    origin: Path
    digest: str

    @property
    def url(self) -> str:
        return f"{self.gateway.metrics}/artifacts/{self.digest}"

    def data(self, name: str) -> bytes:
        return (self.origin / name).read_bytes()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gateway's only chat model lies in a folder outside of the state directory."""
    base = tmp_path_factory.mktemp("artifacts")
    origin = base / "origin"
    digest = make_artifact(origin, SIZES)
    (origin / "private.txt").write_text("not in the manifest")
    (base / "state").mkdir()
    with gateways(base / "state") as make:
        gateway = make({}, start=False)
        name(gateway, str(origin), digest)
        gateway.start()
        yield Served(gateway, origin, digest)


def name(gateway: Gateway, artifact: str, digest: str) -> None:
    """Let the live generation name an artifact."""
    where = t.Model.id == MODEL
    gateway.execute(update(t.Model).where(where).values(artifact=artifact, manifest_sha256=digest))


def test_a_neuron_gets_all_of_it(served: Served, tmp_path: Path) -> None:
    folder = fetch(Store(tmp_path / "artifacts"), Remote(served.url), served.digest)

    assert all((folder / n).read_bytes() == served.data(n) for n in (*SIZES, "manifest.json"))


def test_files_have_length_type_and_an_etag_that_is_their_content(served: Served) -> None:
    answer = httpx.get(f"{served.url}/model.onnx")

    assert answer.status_code == 200
    assert answer.content == served.data("model.onnx")
    assert answer.headers["content-length"] == str(SIZES["model.onnx"])
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    again = httpx.get(f"{served.url}/model.onnx", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_head_tells_without_a_body(served: Served) -> None:
    answer = httpx.head(f"{served.url}/sub/weights.bin")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZES["sub/weights.bin"])


@pytest.mark.parametrize(
    ("wanted", "start", "end"), [("bytes=5000000-", 5000000, None), ("bytes=0-9", 0, 10), ("bytes=7-99999999", 7, None)]
)
def test_a_range_is_exactly_that(served: Served, wanted: str, start: int, end: int | None) -> None:
    answer = httpx.get(f"{served.url}/model.onnx", headers={"Range": wanted})

    data = served.data("model.onnx")
    assert answer.status_code == 206
    assert answer.content == data[start:end]
    assert answer.headers["content-range"] == f"bytes {start}-{(end or len(data)) - 1}/{len(data)}"


def test_ranges_that_cannot_be_are_refused_and_others_ignored(served: Served) -> None:
    size = SIZES["model.onnx"]
    beyond = httpx.get(f"{served.url}/model.onnx", headers={"Range": f"bytes={size}-"})
    several = httpx.get(f"{served.url}/model.onnx", headers={"Range": "bytes=0-1,4-5"})
    changed = httpx.get(f"{served.url}/model.onnx", headers={"Range": "bytes=5-", "If-Range": '"other"'})

    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert (several.status_code, len(several.content)) == (200, size)
    assert (changed.status_code, len(changed.content)) == (200, size)


@pytest.mark.parametrize("path", ["private.txt", "../state.db", "..%2fstate.db", "sub", "nothing", "%00"])
def test_only_files_of_the_manifest_are_served(served: Served, path: str) -> None:
    answer = httpx.get(f"{served.url}/{path}")

    assert answer.status_code in (400, 404), answer.content
    assert "error" in answer.json()


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64, "..", "etc", "A" * 64])
def test_only_what_the_live_generation_names_is_served(served: Served, digest: str) -> None:
    answer = httpx.get(f"{served.gateway.metrics}/artifacts/{digest}/manifest.json")

    assert answer.status_code == 404


def test_clients_of_the_api_reach_none_of_it(served: Served) -> None:
    answer = httpx.get(f"{served.gateway.base}/artifacts/{served.digest}/manifest.json")

    assert answer.status_code == 404
    assert httpx.get(f"{served.url}/manifest.json").status_code == 200


def test_it_takes_the_store_first_and_says_what_is_missing(tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "origin", {"x": 10})
    (tmp_path / "state").mkdir()
    with gateways(tmp_path / "state") as make:
        gateway = make({}, start=False)
        name(gateway, f"sha256:{digest}", digest)
        gateway.start()
        url = f"{gateway.metrics}/artifacts/{digest}/x"

        missing = httpx.get(url)
        assert missing.status_code == 404
        assert "is not in this host's store; `cortexd model pull` brings it" in missing.json()["error"]["message"]

        Store(tmp_path / "state" / "artifacts").add(tmp_path / "origin")
        assert httpx.get(url).content == (tmp_path / "origin/x").read_bytes()


def test_an_artifact_that_changed_on_disk_is_not_served(tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "origin", {"x": 10, "y": 10})
    (tmp_path / "state").mkdir()
    with gateways(tmp_path / "state") as make:
        gateway = make({}, start=False)
        name(gateway, str(tmp_path / "origin"), digest)
        gateway.start()
        (tmp_path / "origin/x").write_bytes(b"longer than before")
        make_artifact(tmp_path / "other", {"x": 10}, seed=2)

        url = f"{gateway.metrics}/artifacts/{digest}"
        assert "its manifest says 10" in httpx.get(f"{url}/x").json()["error"]["message"]
        (tmp_path / "origin/manifest.json").write_bytes((tmp_path / "other/manifest.json").read_bytes())
        assert "has changed since the fleet was compiled" in httpx.get(f"{url}/y").json()["error"]["message"]
        with pytest.raises(TransferError, match="there is no such file"):
            fetch(Store(tmp_path / "elsewhere"), Remote(url), digest)
