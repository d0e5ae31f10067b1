"""The store by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cortexd.artifacts import store as module
from cortexd.artifacts.store import Store, StoreError
from tests.cortexd.artifacts.make import make_artifact


def test_a_folder_is_taken_in_by_content_and_twice_is_once(tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "a", {"x": 1000, "d/y": 10})
    store = Store(tmp_path / "state" / "artifacts")

    assert store.add(tmp_path / "a") == digest
    assert store.add(tmp_path / "a") == digest
    assert store.complete(digest)
    assert (store.folder(digest) / "d/y").read_bytes() == (tmp_path / "a/d/y").read_bytes()
    assert len(list(store.blobs.iterdir())) == 2


def test_a_folder_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    digest = make_artifact(tmp_path / "a", {"x": 1000})
    (tmp_path / "a/x").write_bytes(b"y" * 1000)
    store = Store(tmp_path / "state" / "artifacts")

    with pytest.raises(StoreError, match="x has sha256"):
        store.add(tmp_path / "a")

    assert not store.complete(digest)
    assert list(store.blobs.iterdir()) == []
    assert list(store.partial.iterdir()) == []


def test_without_hard_links_symbolic_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module.Path, "hardlink_to", refuse)
    digest = make_artifact(tmp_path / "a", {"x": 1000, "d/y": 10})
    store = Store(tmp_path / "state" / "artifacts")
    store.add(tmp_path / "a")

    assert (store.folder(digest) / "d/y").is_symlink()
    assert (store.folder(digest) / "d/y").read_bytes() == (tmp_path / "a/d/y").read_bytes()


def test_an_artifact_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    make_artifact(tmp_path / "a", {"x": 1000})
    store = Store(tmp_path / "state" / "artifacts")

    with pytest.raises(StoreError, match=r"blob .* is not in"):
        store.assemble((tmp_path / "a/manifest.json").read_bytes())

    assert list((store.root / "artifacts").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/x", "manifest.json", "a/../b", "a//b", "./a", ""])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    make_artifact(tmp_path / "a", {"x": 10})
    text = (tmp_path / "a/manifest.json").read_text().replace('"x": {', f'"{name}": {{')

    with pytest.raises(StoreError, match="is no file that an artifact may have"):
        module.parse_manifest(text.encode())


def test_a_digest_that_is_none_never_becomes_a_path(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no SHA-256"):
        Store(tmp_path).folder("../../etc")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_puts_in_belongs_to_whom_the_state_folder_belongs(tmp_path: Path) -> None:
    """`cortexd model pull` as root: the neurons, which run as another user, go on writing there."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12346)
    make_artifact(tmp_path / "a", {"x": 1000, "d/y": 10})
    store = Store(state / "artifacts")
    folder = store.add(tmp_path / "a")

    made = [store.root, *store.root.rglob("*")]
    assert store.folder(folder) in made
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in made} == {(12345, 12346)}
    assert all(p.stat().st_mode & 0o444 == 0o444 for p in store.blobs.iterdir())
