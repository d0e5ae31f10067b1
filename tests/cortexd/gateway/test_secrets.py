"""Keys by reference: found where they lie, followed when they change, never shown."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from cortexd.gateway.secrets import Secrets
from cortexd.routing.snapshot import KeyRef, KeyView


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def ref(ref: str, key_id: str = "k") -> KeyRef:
    return KeyRef(ref, KeyView(key_id, "acme"))


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What was logged so far; grows."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cortexd.gateway")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_environment_file_and_credential_are_read_without_the_space_around(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("  from-file\n")
    (tmp_path / "cred").write_text("from-credential\n")
    secrets = Secrets({"KEY": "from-env ", "CREDENTIALS_DIRECTORY": str(tmp_path)})

    found = secrets.resolve((ref("env:KEY"), ref(f"file:{tmp_path}/file", "f"), ref("credential:cred", "c")), {})

    assert {h: key.key_id for h, key in found.items()} == {
        digest("from-env"): "k", digest("from-file"): "f", digest("from-credential"): "c",
    }  # fmt: skip
    assert secrets.problems == {}


def test_what_cannot_be_had_is_told_once_with_the_reason_and_again_when_it_works(
    tmp_path: Path, told: list[str]
) -> None:
    path = tmp_path / "key"
    secrets = Secrets({})
    refs = (ref("env:NO", "e"), ref(f"file:{path}", "f"), ref("credential:c", "c"), ref("file:/dev/null", "n"))
    for _ in range(3):
        assert secrets.resolve(refs, {}) == {}

    assert len(told) == 4
    assert "key e does not work: env:NO is not set in the gateway's environment" in told
    assert f"key f does not work: file:{path} cannot be read: No such file or directory" in told
    assert any("$CREDENTIALS_DIRECTORY is not set" in line for line in told)
    path.write_text("secret")
    assert list(secrets.resolve(refs, {})) == [digest("secret")]
    assert told[4:] == ["key f works again"] and "f" not in secrets.problems


def test_a_changed_file_is_a_changed_key_and_an_unchanged_one_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("one")
    secrets, refs = Secrets({}), (ref(f"file:{path}"),)
    assert list(secrets.resolve(refs, {})) == [digest("one")]
    before = path.stat()

    path.write_text("two")  # the same size; only a look at the content could tell, and nobody looks
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert list(secrets.resolve(refs, {})) == [digest("one")]
    other = tmp_path / "new"
    other.write_text("two")
    other.rename(path)
    assert list(secrets.resolve(refs, {})) == [digest("two")]
    path.unlink()
    assert secrets.resolve(refs, {}) == {}


def test_empty_huge_and_doubled_secrets_do_not_work_and_are_never_shown(tmp_path: Path, told: list[str]) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "huge").write_text("x" * 70_000)
    (tmp_path / "double").write_text("sk-secret")
    refs = tuple(ref(f"file:{tmp_path}/{name}", name) for name in ("empty", "huge", "double"))
    secrets = Secrets({})

    assert secrets.resolve(refs, {digest("sk-secret"): KeyView("first", "acme")}) == {}
    assert set(secrets.problems) == {"empty", "huge", "double"}
    assert "the same secret as key first" in secrets.problems["double"]
    assert not any("sk-secret" in line or digest("sk-secret") in line for line in told)


def test_a_key_that_left_the_fleet_is_forgotten_without_a_word(told: list[str]) -> None:
    secrets = Secrets({})
    secrets.resolve((ref("env:NO"),), {})

    assert secrets.resolve((), {}) == {}
    assert secrets.problems == {} and len(told) == 1


def test_names_that_would_lead_out_of_the_credentials_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("s")
    folder = tmp_path / "in"
    folder.mkdir()
    secrets = Secrets({"CREDENTIALS_DIRECTORY": str(folder)})

    assert secrets.resolve((ref("credential:../x", "a"), ref("vault:x", "b"), ref("file:\0", "c")), {}) == {}
    assert set(secrets.problems) == {"a", "b", "c"}
