"""apply makes a generation current: all of it or nothing, whatever happens in between."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compiler.plan import Create, Update
from cortexd.cli import cli
from cortexd.cli.compile import compile_command
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.settings import Settings
from tests.cortexd.deploy.conftest import MODELS, Place, live, query, state, workers


def test_the_first_apply_makes_database_and_files(place: Place) -> None:
    folder = place.compile()
    done = apply(folder, place.site, settings=Settings(clock=lambda: 1000.5))

    assert (done.generation, done.previous, done.version, done.migrated) == (folder.name, None, 1, True)
    assert Create("model", ("chat",)) in done.changes
    assert query(place.var, "SELECT * FROM live") == [(1, folder.name, 1, 1000.5)]
    assert query(place.var, "SELECT * FROM apply_history") == [
        (1, 1000.5, None, folder.name, "apply", "live", 1000.5, None)
    ]
    assert query(place.var, "SELECT id, context FROM model") == [("chat", 131072)]
    assert query(place.var, "SELECT model, neuron, devices FROM placement") == [("chat", "local", '["cpu-0"]')]
    assert (place.var / "etc/control.toml").read_bytes() == (folder / "hosts/here/control.toml").read_bytes()
    assert (place.var / "etc/neurons/local.toml").read_bytes() == (
        folder / "hosts/here/neurons/local.toml"
    ).read_bytes()


def test_the_second_apply_of_the_same_has_nothing_to_do(place: Place) -> None:
    folder = place.compile()
    apply(folder, place.site)
    before = state(place.var)

    assert apply(folder, place.site).nothing
    assert state(place.var) == before


def test_another_generation_takes_over_and_the_first_can_come_back(place: Place) -> None:
    one, two = place.compile(2), place.compile(3, MODELS.replace('default = "chat"', 'fast = "chat"'))
    apply(one, place.site)
    done = apply(two, place.site)

    assert [str(c) for c in done.changes if not isinstance(c, Update)] == ["- alias default", "+ alias fast"]
    assert [c.table for c in done.changes if isinstance(c, Update)] == ["generation"]
    assert (live(place.var), workers(place.var)) == (two.name, 3)

    back = apply(one, place.site)

    assert (back.previous, back.version) == (two.name, 3)
    assert (live(place.var), workers(place.var)) == (one.name, 2)
    assert query(place.var, "SELECT version, previous, generation FROM apply_history") == [
        (1, None, one.name),
        (2, one.name, two.name),
        (3, two.name, one.name),
    ]
    assert len(query(place.var, "SELECT * FROM model")) == 2, "rows of both generations, each once"


def tamper_file(folder: Path) -> None:
    path = folder / "hosts/here/neurons/local.toml"
    path.write_text(path.read_text().replace("cpu-0", "cpu-1"))


def remove_file(folder: Path) -> None:
    (folder / "hosts/here/control.toml").unlink()


def add_file(folder: Path) -> None:
    (folder / "hosts/here/extra.toml").write_text("x = 1")


def tamper_rows_and_manifest(folder: Path) -> None:
    """Even somebody who corrects the manifest does not get past the generation's own hash."""
    with closing(sqlite3.connect(folder / "fleet.db")) as db, db:
        db.execute("UPDATE model SET context = 1")
    data = (folder / "fleet.db").read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["fleet.db"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def truncate_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (tamper_file, "hosts/here/neurons/local.toml is not what was compiled"),
        (remove_file, "hosts/here/control.toml is missing"),
        (add_file, "hosts/here/extra.toml is not in manifest.json"),
        (tamper_rows_and_manifest, "does not have the hash that names it"),
        (truncate_manifest, "is not the manifest of a generation"),
    ],
)
def test_a_changed_generation_is_refused_and_nothing_changes(place: Place, damage: Any, said: str) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    before = state(place.var)
    damage(two)

    with pytest.raises(ApplyError, match="compile again") as refused:
        apply(two, place.site)

    assert said in str(refused.value)
    assert state(place.var) == before


def test_a_failure_in_the_transaction_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    before = state(place.var)

    def broken(*_: object) -> float:
        raise OSError(28, "No space left on device")

    with pytest.raises(ApplyError, match="No space left"):
        apply(two, place.site, settings=Settings(clock=broken))  # its rows are inserted by then

    assert state(place.var) == before
    assert apply(two, place.site).version == 2


def test_a_database_of_a_newer_version_is_refused(place: Place) -> None:
    folder = place.compile()
    apply(folder, place.site)
    with closing(sqlite3.connect(place.var / "state.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ApplyError, match=r"revision 9999, which this version does not know \(it knows 0001, 0002\)"):
        apply(place.compile(3), place.site)

    assert live(place.var) == folder.name


def test_tables_that_are_not_ours_are_left_alone(place: Place) -> None:
    place.var.mkdir()
    with closing(sqlite3.connect(place.var / "state.db")) as db, db:
        db.execute("CREATE TABLE host (x)")

    with pytest.raises(ApplyError, match="already has tables named host, but no revision"):
        apply(place.compile(), place.site)


def test_a_file_that_is_no_database_is_a_sentence(place: Place) -> None:
    place.var.mkdir()
    (place.var / "state.db").write_bytes(b"no database " * 100)

    with pytest.raises(ApplyError, match=r"state\.db cannot be used: file is not a database"):
        apply(place.compile(), place.site)


def test_a_folder_etc_of_somebody_else_is_not_overwritten(place: Place) -> None:
    (place.var / "etc").mkdir(parents=True)

    with pytest.raises(ApplyError, match="move it away first"):
        apply(place.compile(), place.site)

    assert live(place.var) is None


def test_files_that_were_changed_in_place_are_put_right(place: Place) -> None:
    folder = place.compile(2)
    apply(folder, place.site)
    (place.var / "etc/control.toml").write_text("changed")

    done = apply(folder, place.site)

    assert done.repaired == ("here:control.toml: its content was changed",) and done.version is None
    assert workers(place.var) == 2


def test_two_applies_at_once_do_not_mix(place: Place) -> None:
    place.var.mkdir()
    with (place.var / ".apply.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ApplyError, match="another `cortexd apply` is at work"):
            apply(place.compile(), place.site)


def test_the_commands_tell_what_happens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    monkeypatch.chdir(place.folder)
    early = run(cli, ["apply"])
    assert (early.exit_code, "run `cortexd compile` first" in early.output) == (1, True)

    place.compile()
    compiled = run(compile_command)
    first, second = run(cli, ["apply"]), run(cli, ["apply"])
    Path("models.toml").write_text(MODELS.replace("task", "taks"))
    wrong, wrong_json = run(compile_command), run(compile_command, ["--format", "json"])

    assert compiled.exit_code == 0 and "build/" in compiled.output
    assert first.exit_code == 0 and "+ model chat" in first.output and "is live in var (apply 1)" in first.output
    assert second.exit_code == 0 and second.output.endswith("nothing to do\n")
    assert wrong.exit_code == 1 and "2 errors; nothing was written" in wrong.output
    assert wrong_json.exit_code == 1 and {d["code"] for d in json.loads(wrong_json.stdout)["diagnostics"]} == {
        "CX201",
        "CX202",
    }


def test_places_that_cannot_be_written_are_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    place.compile()
    Path("a-file").write_text("")

    built = CliRunner().invoke(compile_command, ["--out", "a-file/build"])
    applied = CliRunner().invoke(cli, ["apply", "--state-dir", "a-file"])

    assert built.exit_code == 1 and "Error: cannot write" in built.output
    assert applied.exit_code == 1 and f"Error: {Path.cwd()}/a-file: File exists" in applied.output
