"""``cortexd import`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cortexd.cli import cli

CONFIG = "apiKeys: [sk-literal-0001]\nmodels:\n  small:\n    cmd: llama-server -m small-Q8_0.gguf -c 4096\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_it_writes_both_files_and_lists_what_needs_a_look(config: Path, tmp_path: Path) -> None:
    code, out, err = run("import", "llama-swap", config, "--out", tmp_path / "new")

    assert code == 0
    assert "to do" in out
    assert f"{config}:4: to do: models.small.cmd: model small: name its checkpoint" in err
    assert "sk-literal-0001" not in out + err
    assert 'id = "small"' in (tmp_path / "new/models.toml").read_text()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["fleet.toml", "models.toml"]


def test_it_never_overwrites_without_force(config: Path, tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("mine\n")

    code, _, err = run("import", "llama-swap", config, "--out", tmp_path)
    assert code == 1
    assert "models.toml: there already; --force overwrites" in err
    assert (tmp_path / "models.toml").read_text() == "mine\n"
    assert not (tmp_path / "fleet.toml").exists()

    assert run("import", "llama-swap", config, "--out", tmp_path, "--force")[0] == 0
    assert "small" in (tmp_path / "models.toml").read_text()


def test_json_names_files_and_notes(config: Path, tmp_path: Path) -> None:
    code, out, err = run("import", "llama-swap", config, "--out", tmp_path / "new", "--json")
    told = json.loads(out)

    assert (code, err) == (0, "")
    assert told["files"] == [str(tmp_path / "new/fleet.toml"), str(tmp_path / "new/models.toml")]
    assert {n["kind"] for n in told["notes"]} >= {"to do", "left out"}
    assert all(set(n) == {"kind", "file", "line", "key", "value", "reason"} for n in told["notes"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"models: [", "config.yaml:1: not YAML"),
        (b"a: 1\nmodels: \xff", "config.yaml:2: not UTF-8: byte 0xff"),
        (b"models: 5", "config.yaml:1: models must be keys"),
    ],
)
def test_a_file_that_cannot_be_read_in_is_one_line(content: bytes, message: str, config: Path, tmp_path: Path) -> None:
    config.write_bytes(content)

    code, _, err = run("import", "llama-swap", config, "--out", tmp_path / "new")
    assert code == 1
    assert message in err
    assert not (tmp_path / "new").exists()


def test_a_missing_file_and_an_unknown_kind_are_told(tmp_path: Path) -> None:
    assert "no.yaml: No such file" in run("import", "litellm", tmp_path / "no.yaml")[2]
    assert run("import", "other", tmp_path / "no.yaml")[0] == 2
