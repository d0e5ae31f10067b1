"""Whatever is done to the two files, the answer is a generation or findings; never an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.diagnostics import has_errors
from compiler.pipeline import compile_files
from tests.compiler.artifacts import make_all
from tests.compiler.test_pipeline import FLEET, MODELS

VALUES = st.sampled_from(
    [
        "1",
        "-1",
        "1e400",
        "nan",
        "99999999999999999999",
        "true",
        '""',
        '"x"',
        '"\\u0000"',
        "[]",
        "[[]]",
        "[1, {}]",
        "{}",
        '{ a = "b" }',
        "1979-05-27",
        "[{}]",
        '"path:artifacts/chat"',
        '"127.0.0.1:1"',
        '"[::1]:1"',
        '"http://[::1"',
        "oops",
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["value", "key", "delete", "twice", "table", "array"]), VALUES),
    max_size=3,
)


def edited(text: str, edits: list[tuple[int, str, str]]) -> str:
    lines = text.strip().split("\n")
    for where, kind, value in edits:
        where %= len(lines)
        key, equals, old = lines[where].partition("=")
        match kind:
            case "value":
                lines[where] = f"{key}= {value}" if equals else f"x = {value}"
            case "key":
                lines[where] = f"{value.strip('[]{}')} = {old or 1}"
            case "delete":
                del lines[where]
            case "twice":
                lines.insert(where, lines[where])
            case "table":
                lines[where] = lines[where].replace("[[", "[").replace("]]", "]")
            case "array":
                lines[where] = lines[where].replace("[", "[[", 1).replace("]", "]]", 1)
        lines = lines or [""]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mutations")
    make_all(path)
    return path


@given(fleet=EDITS, models=EDITS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_edited_fleet_compiles_or_is_explained(
    folder: Path, fleet: list[tuple[int, str, str]], models: list[tuple[int, str, str]]
) -> None:
    (folder / "fleet.toml").write_text(edited(FLEET, fleet))
    (folder / "models.toml").write_text(edited(MODELS, models))

    outcome = compile_files(folder / "fleet.toml", folder / "models.toml", folder / "build")

    assert (outcome.emitted is None) == has_errors(outcome.diagnostics)
    for found in outcome.diagnostics:
        lines = outcome.sources[found.span.file]
        assert 1 <= found.span.line <= len(lines)
        assert found.span.column + found.span.length - 1 <= max(len(lines[found.span.line - 1]), 1) + 1
    assert len(outcome.text().split("error[")) == 1 + sum(d.severity == "error" for d in outcome.diagnostics)
