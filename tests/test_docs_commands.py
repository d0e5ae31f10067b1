"""Every command line in the documents is one that the programs accept, and every block of TOML or JSON parses."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cortexd.cli import cli as cortexd_cli
from neuron.cli import cli as neuron_cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PROGRAMS = {"cortexd": cortexd_cli, "neuron": neuron_cli}


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, line and text of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield found[1], text[: found.start()].count("\n") + 1, found[2]


def command_lines() -> list[tuple[str, list[str]]]:
    """(place, words) of each call of one of our programs."""
    found = []
    for page in PAGES:
        for language, line, text in blocks(page):
            if language not in ("sh", "console"):
                continue
            joined = text.replace("\\\n", " ")
            for command in re.split(r"\n|&&|;|\|", joined):
                words = shlex.split(command.removeprefix("$ ").strip(), comments=True) if _ours(command) else []
                while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] == "sudo"):
                    words = words[1:]
                if words and Path(words[0]).name in PROGRAMS:
                    found.append((f"{page.relative_to(ROOT)}:{line}: {command.strip()}", words))
    return found


def _ours(command: str) -> bool:
    return re.search(r"(?:^|\s|/)(?:cortexd|neuron)\s", command) is not None


def accept(command: click.Command, name: str, words: list[str]) -> None:
    """Parse the words as click would, without running anything. Raises click.UsageError."""
    if not isinstance(command, click.Group):
        command.make_context(name, list(words))
        return
    with click.Context(command, info_name=name) as parent:
        if words[:1] and words[0] in ("--help", "-h", "--version"):
            return
        assert words, f"{name} needs a command"
        inner = command.get_command(parent, words[0])
        assert inner is not None, f"{name} has no command {words[0]}"
        accept(inner, words[0], words[1:])


@pytest.mark.parametrize(("place", "words"), command_lines(), ids=lambda v: v if isinstance(v, str) else "")
def test_a_documented_command_line_is_accepted(place: str, words: list[str]) -> None:
    if {"--help", "-h"} & set(words):
        return
    program = Path(words[0]).name
    try:
        accept(PROGRAMS[program], program, _without_redirections(words[1:]))
    except click.UsageError as e:
        raise AssertionError(f"{place}: {e.format_message()}") from None


def _without_redirections(words: list[str]) -> list[str]:
    cut = next((n for n, word in enumerate(words) if re.match(r"\d?[<>]", word)), len(words))
    return words[:cut]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_toml_and_json_in_a_page_parse(page: Path) -> None:
    for language, line, text in blocks(page):
        if text.startswith("# wrong\n"):  # meant not to
            continue
        try:
            if language == "toml":
                tomllib.loads(text)
            elif language == "json":
                json.loads(text)
        except ValueError as e:
            raise AssertionError(f"{page.relative_to(ROOT)}:{line}: {e}") from None
