"""Which kind of installation is meant, and where its state lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cortexd.cli import cli
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import load_archived, prune_archive
from cortexd.deploy.site import Site, SiteError, choose, default_folder, files_site
from tests.cortexd.deploy.conftest import Place

SYSTEM, USER = "/var/lib/cortexd", "~/.local/state/cortexd"


def chosen(state: str | None = None, as_root: bool = False, **more: Any) -> Site:
    given: dict[str, Any] = {"user": False, "mode": None, "root": None, **more}
    return choose(Path(state) if state else None, as_root=as_root, **given)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, Site("files", str(Path("var").absolute()))),
        ({"as_root": True}, Site("system", SYSTEM)),
        ({"state": "/x", "as_root": True}, Site("files", "/x")),
        ({"mode": "files", "as_root": True}, Site("files", str(Path("var").absolute()))),
        ({"mode": "system"}, Site("system", SYSTEM)),
        ({"mode": "system", "state": SYSTEM}, Site("system", SYSTEM)),
        ({"user": True}, Site("user", USER)),
        ({"mode": "user", "as_root": True}, Site("user", USER)),
        ({"user": True, "state": USER}, Site("user", USER)),
        ({"root": Path("/mnt")}, Site("image", SYSTEM, "/mnt")),
        ({"root": Path("/mnt"), "mode": "image"}, Site("image", SYSTEM, "/mnt")),
    ],
)
def test_the_mode_follows_from_options_and_machine(arguments: dict[str, Any], expected: Site) -> None:
    assert chosen(**arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {"user": True, "mode": "system"},
        {"root": Path("/mnt"), "mode": "system"},
        {"root": Path("/mnt"), "user": True},
        {"mode": "image"},
        {"mode": "system", "state": "/x"},
        {"user": True, "state": "/x"},
    ],
)
def test_contradictions_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SiteError):
        chosen(**arguments)


def test_the_state_folder_on_this_machine() -> None:
    assert Site("image", SYSTEM, "/mnt").folder == Path("/mnt/var/lib/cortexd")
    assert Site("user", USER).folder == Path.home() / ".local/state/cortexd"
    assert files_site(Path("x")).folder == Path("x").absolute()
    assert [default_folder(user=u, as_root=r) for u, r in ((True, False), (False, True), (False, False))] == [
        Path(USER).expanduser(),
        Path(SYSTEM),
        Path("var"),
    ]


def test_every_command_honours_the_variable_and_the_user_flag(tmp_path: Path) -> None:
    def said(*arguments: str, **env: str) -> str:
        return CliRunner().invoke(cli, list(arguments), env=env).output

    for command in ("status", "usage", "history", "drift", "rollback", "up", "gateway", "controller"):
        assert f"{tmp_path}/etc/control.toml: no such file" in said(command, CORTEXD_STATE_DIR=str(tmp_path))
    for command in ("status", "usage", "history", "drift", "rollback"):
        where = f"{tmp_path}/.local/state/cortexd/etc/control.toml: no such file"
        assert where in said(command, "--user", HOME=str(tmp_path))
    assert "--user is --mode user" in said("plan", "--user", "--mode", "system")
    assert list(tmp_path.iterdir()) == []


def test_root_uses_nothing_that_the_daemons_could_have_put_there(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.compile()
    apply(folder, place.site)
    (tmp_path / "image/var/lib").mkdir(parents=True)
    place.var.rename(tmp_path / "image/var/lib/cortexd")
    image = Site("image", SYSTEM, str(tmp_path / "image"))
    assert load_archived(image, folder.name).hash == folder.name

    precious = tmp_path / "precious"
    (precious / "x").mkdir(parents=True)
    archive = image.folder / "archive"
    archive.rename(tmp_path / "moved")
    archive.symlink_to(precious)
    for act in (lambda: prune_archive(image, ()), lambda: load_archived(image, "x")):
        with pytest.raises(ApplyError, match="so it is not used"):
            act()
    assert (precious / "x").is_dir()

    archive.unlink()
    (tmp_path / "moved").rename(archive)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(ApplyError, match="does not belong to the user that applies"):
        load_archived(image, folder.name)


def test_the_lock_follows_no_link(place: Place, tmp_path: Path) -> None:
    place.var.mkdir()
    (tmp_path / "precious").write_text("content")
    (place.var / ".apply.lock").symlink_to(tmp_path / "precious")

    with pytest.raises(ApplyError, match=r"\.apply\.lock"):
        apply(place.compile(), place.site)

    assert (tmp_path / "precious").read_text() == "content"


def test_only_generations_are_pruned(place: Place) -> None:
    apply(place.compile(), place.site)
    (place.var / "archive" / "mine").mkdir()

    prune_archive(place.site, ())

    assert [p.name for p in (place.var / "archive").iterdir()] == ["mine"]
