"""The command line as a whole: help, version, missing extras, errors in one line, and the reference page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cortexd import __version__
from cortexd.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[3]
LOCAL = sorted(set(COMMANDS) - {"model"})


def cortexd(*arguments: str, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The real program, in an interpreter that lacks some modules."""
    code = (
        "import sys\n"
        f"for name in {without!r}: sys.modules[name] = None\n"
        f"sys.argv = ['cortexd', *{arguments!r}]\n"
        "from cortexd.__main__ import main; main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)


def test_the_version_is_that_of_the_package() -> None:
    assert cortexd("--version").stdout == f"cortexd, version {__version__}\n"


def test_help_lists_every_command_even_without_any_extra() -> None:
    done = cortexd("--help", without=("sqlalchemy", "rich", "httpx", "gevent", "alembic"))

    assert done.returncode == 0, done.stderr
    for name, lazy in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(lazy.summary)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", LOCAL)
def test_every_command_has_a_help_that_explains_each_option(name: str) -> None:
    command = cli.get_command(click.Context(cli, info_name="cortexd"), name)
    assert command is not None and command.help

    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in result.output


@pytest.mark.parametrize(
    ("arguments", "module"),
    [(("status",), "sqlalchemy"), (("usage",), "sqlalchemy"), (("controller",), "httpx")],
)
def test_a_missing_extra_is_a_sentence_with_the_cure(tmp_path: Path, arguments: tuple[str, ...], module: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "control.toml").touch()

    done = cortexd(*arguments, "--state-dir", str(tmp_path), without=(module,))

    assert done.returncode == 1
    assert done.stderr == f"Error: `cortexd {arguments[0]}` needs the module {module}: pip install 'cortexd[control]'\n"


def test_model_export_names_its_own_extra() -> None:
    result = CliRunner().invoke(cli, ["model", "--help"])
    assert "export" in result.output

    done = cortexd("model", "export", "--help", without=("torch", "optimum", "transformers", "onnx", "onnx_ir"))
    if done.returncode != 0:
        assert "cortexd[export]" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["status", "usage", "controller", "gateway", "up"])
def test_a_state_directory_without_a_generation_is_one_clear_line(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--state-dir", str(tmp_path)])

    assert result.exit_code == 1
    assert "control.toml: no such file; `cortexd apply` writes it" in result.output
    assert len(result.output.splitlines()) == 1


def test_wrong_settings_name_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "control.toml").write_text("[gateway]\nworkers = 0\n")

    result = CliRunner().invoke(cli, ["status", "--state-dir", str(tmp_path)])

    assert result.exit_code == 1
    assert "control.toml: gateway.workers:" in result.output


def test_a_missing_or_foreign_database_is_one_clear_line(tmp_path: Path) -> None:
    missing = CliRunner().invoke(cli, ["status", "--database", f"sqlite:///{tmp_path}/none.db"])
    (tmp_path / "foreign.db").touch()
    foreign = CliRunner().invoke(cli, ["status", "--database", f"sqlite:///{tmp_path}/foreign.db"])
    nonsense = CliRunner().invoke(cli, ["status", "--database", "nonsense"])

    assert (missing.exit_code, foreign.exit_code, nonsense.exit_code) == (1, 1, 1)
    assert "none.db: no such database; `cortexd apply` creates it" in missing.output
    assert "no such table: live; `cortexd apply` creates and migrates its tables" in foreign.output
    assert "the database URL cannot be used" in nonsense.output


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["sttaus"])

    assert result.exit_code == 2 and "No such command 'sttaus'" in result.output


def test_the_reference_page_has_every_command_and_option() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name in LOCAL:
        command = cli.get_command(click.Context(cli, info_name="cortexd"), name)
        assert command is not None
        section = page.partition(f"## cortexd {name}\n")[2].partition("\n## ")[0]
        assert section, f"cortexd {name} is not documented"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}" in section, f"cortexd {name} {parameter.opts[0]} is not documented"
