"""docs/reference/diagnostics.md: each code's wrong example gets that code and no other, the right one gets nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from compiler import codes
from compiler.pipeline import compile_files
from cortexd.cli import cli
from tests.compiler.artifacts import make_all

PAGE = (Path(__file__).parents[2] / "docs/reference/diagnostics.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (CX\d+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLE = re.compile(r"```(\w+)\n# (wrong|right)\n(.*?)```", re.DOTALL)
# The search gives up in large fleets only: tests/compiler/cases/gave_up.
WITHOUT_EXAMPLE = {codes.SEARCH_GAVE_UP}
# What an example does not show.
FLEET = {
    "fleet": '[fleet]\nname = "lab"\n',
    "hosts": '[[hosts]]\nname = "here"\naddress = "127.0.0.1"\n',
    "neurons": '[[neurons]]\nname = "local"\nhost = "here"\nendpoint = "http://127.0.0.1:13131"\n'
    '[[neurons.devices]]\nname = "cpu-0"\nkind = "cpu"\nindex = 0\nthreads = 2\nmemory_mb = 6144\n',
}
MODELS = {"models": '[[models]]\nid = "chat"\nsource = "builtin:tiny-chat"\ntask = "chat"\n'}


def whole(example: str, base: dict[str, str], mine: set[str]) -> str:
    """The example's tables that belong to this file, and the base's others."""
    parts = re.split(r"^(?=\[)", example, flags=re.MULTILINE)
    tables = [(match[1], part) for part in parts if (match := re.match(r"\[+(\w+)", part)) and match[1] in mine]
    shown = {name for name, _ in tables}
    return "\n".join([*(text for name, text in base.items() if name not in shown), *(part for _, part in tables)])


@pytest.mark.parametrize("code", [code for code in codes.CODES if code not in WITHOUT_EXAMPLE])
def test_the_wrong_example_gets_the_code_and_the_right_one_does_not(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(tmp_path)
    monkeypatch.chdir(tmp_path)
    examples = EXAMPLE.findall(SECTIONS[code])

    assert [kind for _, kind, _ in examples] == ["wrong", "right"]
    for language, kind, shown in examples:
        text, _, lock = shown.partition("# fleet.lock\n")
        Path("fleet.lock").unlink(missing_ok=True)
        if lock:
            Path("fleet.lock").write_text(lock)
        Path("fleet.toml").write_text(whole(text, FLEET, set(FLEET) | {"gateway", "accounts", "keys"}))
        Path("models.toml").write_text(whole(text, MODELS, {"models", "aliases"}))
        if language == "sh":
            result = CliRunner().invoke(cli, text.split()[1:])
            found = set(re.findall(r"\[(CX\d+)\]", result.output))
        else:
            outcome = compile_files(Path("fleet.toml"), Path("models.toml"), Path("build"))
            found = {d.code for d in outcome.diagnostics}
        assert found == ({code} if kind == "wrong" else set()), text


def test_every_section_is_a_code() -> None:
    assert list(SECTIONS) == list(codes.CODES)
