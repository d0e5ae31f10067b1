"""Wrong fleets and what is said about them, to the letter. ``CORTEXD_UPDATE_CASES=1`` writes what is expected."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from compiler import codes
from compiler.pipeline import compile_files
from tests.compiler.artifacts import make_all

CASES = Path(__file__).parent / "cases"
NAMES = sorted(p.name for p in CASES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_fleet_gets_every_finding_with_its_place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES / name
    for file in ("fleet.toml", "models.toml", "fleet.lock", "models.lock"):
        if (case / file).exists():
            shutil.copy(case / file, tmp_path)
    environment = tomllib.loads((case / "env.toml").read_text()) if (case / "env.toml").exists() else {}
    make_all(tmp_path)
    monkeypatch.chdir(tmp_path)

    outcome = compile_files(Path("fleet.toml"), Path("models.toml"), Path("build"), environment)

    text = outcome.text().replace(str(tmp_path), "HERE")
    if os.environ.get("CORTEXD_UPDATE_CASES"):
        (case / "expected.txt").write_text(text)
    assert text == (case / "expected.txt").read_text()
    assert text != ""
    assert (outcome.emitted is None) == ("error[" in text) == (not (tmp_path / "build").exists())


def test_every_code_occurs_in_a_case() -> None:
    told = "".join((CASES / name / "expected.txt").read_text() for name in NAMES)

    assert [code for code in codes.CODES if f"[{code}]" not in told] == []


def test_no_secret_is_ever_shown() -> None:
    wrong = [name for name in NAMES if any(b"hunter2" in path.read_bytes() for path in (CASES / name).glob("*.toml"))]
    assert len(wrong) > 5
    assert all("hunter2" not in (CASES / name / "expected.txt").read_text() for name in NAMES)


def test_every_code_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "diagnostics.md").read_text()

    assert [code for code in codes.CODES if f"## {code}" not in page] == []
