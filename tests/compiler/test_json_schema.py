"""What editors complete from says the same as the compiler and the documents."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from compiler.schema.json_schema import FILES, json_schema
from cortexd.cli import cli
from tests.compiler.test_pipeline import FLEET, MODELS

ROOT = Path(__file__).parents[2]


def keys(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, table in {"": schema, **schema["$defs"]}.items():
        for key, value in table["properties"].items():
            yield name, key, value


@pytest.mark.parametrize("file", FILES)
def test_the_committed_schema_is_current(file: str) -> None:
    committed = (ROOT / f"docs/reference/{file}.schema.json").read_text(encoding="utf-8")

    assert json.loads(committed) == json_schema(file), f"run `cortexd schema {file} --out docs/reference/…`"


@pytest.mark.parametrize("file", FILES)
def test_the_example_names_the_schema_and_is_valid(file: str) -> None:
    text = (ROOT / f"{file}.toml.example").read_text(encoding="utf-8")
    first = text.splitlines()[0]

    assert first.startswith("#:schema ") and (ROOT / first.removeprefix("#:schema ")).is_file()
    Draft202012Validator.check_schema(json_schema(file))
    Draft202012Validator(json_schema(file)).validate(tomllib.loads(text))


@pytest.mark.parametrize("file", FILES)
def test_every_key_has_a_description_and_none_may_be_null(file: str) -> None:
    schema = json_schema(file)

    assert [f"{table}.{key}" for table, key, value in keys(schema) if not value.get("description")] == []
    assert "null" not in json.dumps(schema)


@pytest.mark.parametrize("file", FILES)
def test_every_key_is_in_the_example_and_in_the_reference(file: str) -> None:
    example = (ROOT / f"{file}.toml.example").read_text(encoding="utf-8")
    page = (ROOT / f"docs/reference/{file}-toml.md").read_text(encoding="utf-8")
    words = [key for _, key, _ in keys(json_schema(file))]

    assert [key for key in words if key not in example] == []
    assert [key for key in words if f"`{key}`" not in page and f"[{key}]" not in page and f"{key} =" not in page] == []


def test_what_compiles_is_valid_and_common_mistakes_are_not() -> None:
    fleet, models = (Draft202012Validator(json_schema(file)) for file in FILES)

    fleet.validate(tomllib.loads(FLEET))
    models.validate(tomllib.loads(MODELS))
    assert not fleet.is_valid(tomllib.loads(FLEET.replace("workers = 3", "wrokers = 3")))
    assert not fleet.is_valid(tomllib.loads(FLEET.replace("workers = 3", 'workers = "3"')))
    assert not fleet.is_valid(tomllib.loads(FLEET.replace("workers = 3", 'listen = "31313"')))
    assert not models.is_valid(tomllib.loads(MODELS.replace('task = "chat"', 'task = "caht"')))


def test_the_command_prints_it_or_writes_it(tmp_path: Path) -> None:
    printed = CliRunner().invoke(cli, ["schema", "models"])
    written = CliRunner().invoke(cli, ["schema", "models", "--out", str(tmp_path / "m.json")])
    refused = CliRunner().invoke(cli, ["schema", "models", "--out", str(tmp_path / "no" / "m.json")])

    assert json.loads(printed.output) == json_schema("models") == json.loads((tmp_path / "m.json").read_text())
    assert (written.exit_code, refused.exit_code) == (0, 1)
    assert "cannot write" in refused.output and "Traceback" not in refused.output
