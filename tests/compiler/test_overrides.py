"""Variables of the environment that stand for values of fleet.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from compiler.overrides import override
from compiler.pipeline import Outcome, compile_files
from compiler.source import read
from tests.compiler.artifacts import make_all
from tests.compiler.test_pipeline import FLEET, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_all(tmp_path)
    write(tmp_path)
    return tmp_path


def compiled(folder: Path, **environment: str) -> Outcome:
    return compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build", environment)


def control(outcome: Outcome) -> dict[str, dict[str, object]]:
    assert outcome.emitted is not None, outcome.text()
    return tomllib.loads((outcome.emitted.folder / "hosts/b/control.toml").read_text())


def test_a_variable_stands_for_a_key_and_changes_the_generation(folder: Path) -> None:
    plain = compiled(folder)
    outcome = compiled(folder, CORTEXD_GATEWAY__WORKERS="7", CORTEXD_CONTROLLER__POLL_INTERVAL_S="0.5")

    assert control(outcome)["gateway"]["workers"] == 7
    assert control(outcome)["controller"]["poll_interval_s"] == 0.5
    assert plain.emitted and outcome.emitted and plain.emitted.generation != outcome.emitted.generation


def test_the_same_value_gives_the_same_generation_wherever_it_was_written(folder: Path) -> None:
    by_variable = compiled(folder, CORTEXD_GATEWAY__WORKERS="7").emitted
    write(folder, FLEET.replace("workers = 3", "workers = 7"))
    by_file = compiled(folder).emitted

    assert by_variable is not None and by_variable == by_file


def test_variables_without_two_underscores_and_of_others_are_none_of_ours(folder: Path) -> None:
    environment = {"CORTEXD_STATE_DIR": "/x", "CORTEXD_DATABASE_URL": "x", "CORTEXD_SSH": "ssh", "OTHER__GATEWAY": "1"}

    assert compiled(folder, **environment).emitted == compiled(folder).emitted


def overridden(**environment: str) -> dict[str, object]:
    source, found = override(read("fleet.toml", FLEET), environment)
    assert found == [] and source.data is not None
    return dict(source.data)


def test_entries_of_lists_are_called_by_name_in_any_case() -> None:
    data = overridden(CORTEXD_Neurons__local__DEVICES__cpu_0__MEMORY_MB="4096", CORTEXD_KEYS__LAPTOP__MODELS='["x"]')

    assert data["neurons"][1]["devices"][0]["memory_mb"] == 4096  # type: ignore[index]
    assert data["keys"][0]["models"] == ["x"]  # type: ignore[index]


def test_a_section_that_the_file_lacks_is_made() -> None:
    assert overridden(CORTEXD_EVICTION__STRATEGY="priority")["eviction"] == {"strategy": "priority"}


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", "5"), ("true", "true"), ('"quoted"', "quoted"), ("", ""), ("a\nworkers = 9", "a\nworkers = 9")],
)
def test_where_text_is_wanted_the_value_is_text(text: str, value: str) -> None:
    assert overridden(CORTEXD_FLEET__NAME=text)["fleet"] == {"name": value}


def test_the_file_itself_is_not_changed() -> None:
    source = read("fleet.toml", FLEET)
    override(source, {"CORTEXD_GATEWAY__WORKERS": "7"})

    assert source.data is not None and source.data["gateway"]["workers"] == 3


def test_what_the_file_has_in_the_wrong_shape_is_told_about_the_file() -> None:
    source, found = override(read("fleet.toml", 'gateway = "x"\n'), {"CORTEXD_GATEWAY__WORKERS": "7"})

    assert source.data == {"gateway": "x"} and found == []
