"""``cortexd compile`` as people and CI call it: statuses, formats, and what is (not) written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cortexd.cli import cli
from tests.compiler.artifacts import make_all
from tests.compiler.test_pipeline import FLEET, MODELS, write

WARNED = MODELS.replace("idle_ttl_s = 90", "cost = { input = 1 }")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_all(tmp_path)
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["compile", *arguments], env=environment)


def test_check_writes_nothing_and_says_whether_the_build_is_current(folder: Path) -> None:
    before = call("--check")
    assert (before.exit_code, "build holds no generation" in before.output) == (2, True)
    assert not (folder / "build").exists()

    assert call().exit_code == 0
    after = call("--check")
    assert (after.exit_code, "is the latest in build" in after.output) == (0, True)

    write(folder, FLEET.replace("workers = 3", "workers = 4"))
    changed = call("--check")
    assert (changed.exit_code, "the latest in build is" in changed.output) == (2, True)
    assert len(list((folder / "build").iterdir())) == 2, "one generation and `latest`"


def test_check_notices_a_file_that_was_changed_by_hand(folder: Path) -> None:
    assert call().exit_code == 0
    next((folder / "build").glob("*/hosts/b/control.toml")).write_text("tampered")

    result = call("--check")

    assert (result.exit_code, "was changed: hosts/b/control.toml" in result.output) == (2, True)


def test_check_of_wrong_files_is_1_like_compile(folder: Path) -> None:
    write(folder, FLEET.replace("workers = 3", "wrokers = 3"))

    assert (call("--check").exit_code, call().exit_code) == (1, 1)
    assert call("--no-such-option").exit_code == 2


def test_warnings_are_told_and_denied_only_when_asked(folder: Path) -> None:
    write(folder, FLEET, WARNED)

    denied = call("--deny-warnings")
    assert (denied.exit_code, "1 warning; nothing was written" in denied.output) == (1, True)
    assert not (folder / "build").exists()
    allowed = call()
    assert (allowed.exit_code, "warning[CX205]" in allowed.output) == (0, True)
    write(folder, FLEET)
    assert call("--deny-warnings").exit_code == 0
    assert (folder / "build" / "latest").exists()


def test_json_says_what_was_made_and_what_was_found(folder: Path) -> None:
    made = json.loads(call("--format", "json").stdout)
    checked = json.loads(call("--format", "json", "--check", CORTEXD_GATEWAY__WORKERS="9").stdout)
    write(folder, FLEET, MODELS.replace('"embed"\nsource', '"org/chat"\nsource'))
    wrong = json.loads(call("--format", "json").stdout)

    assert (made["ok"], made["stale"], made["folder"]) == (True, None, f"build/{made['generation']}")
    assert (checked["ok"], checked["folder"]) == (False, None) and "the latest in build" in checked["stale"]
    assert (wrong["ok"], wrong["generation"]) == (False, None)
    line = MODELS.splitlines().index('id = "embed"') + 1
    assert [(d["code"], d["file"], d["line"]) for d in wrong["diagnostics"]] == [("CX301", "models.toml", line)]


def test_sarif_has_the_findings_with_files_as_they_were_named(folder: Path) -> None:
    write(folder, FLEET.replace("workers = 3", "wrokers = 3"))
    result = call("--format", "sarif")
    (found,) = json.loads(result.stdout)["runs"][0]["results"]

    assert (result.exit_code, found["ruleId"]) == (1, "CX201")
    assert found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "fleet.toml"


def test_a_variable_of_the_environment_is_heard(folder: Path) -> None:
    result = call(CORTEXD_GATEWAY__WORKERS="0")

    assert (result.exit_code, "$CORTEXD_GATEWAY__WORKERS:1:26: error[CX204]" in result.output) == (1, True)


def test_a_build_folder_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    (folder / "build").write_text("a file")

    result = call()

    assert (result.exit_code, "cannot write" in result.output, "Traceback" in result.output) == (1, True, False)
