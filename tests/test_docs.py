"""The documents are true where a program can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cortexd.models import Base

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:cortexd|neuron|compiler|migrations|templates|tests|docs)/[\w./-]+)`", text))
    linked = {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert [target for target in sorted(linked) if not (page.parent / target).exists()] == []


def test_every_table_is_described() -> None:
    text = (ROOT / "docs/reference/database.md").read_text(encoding="utf-8")

    assert [name for name in sorted(Base.metadata.tables) if f"`{name}`" not in text] == []
