"""The page about dialects names what the tables in the code hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cortexd.dialects.anthropic_messages import request as messages
from cortexd.dialects.finish import TABLE
from cortexd.dialects.openai_chat import request as chat
from cortexd.dialects.openai_completions import request as completions
from cortexd.dialects.openai_embeddings import request as embeddings
from cortexd.dialects.openai_responses import request as responses
from cortexd.protocol.request import ALL_FEATURES

TEXT = (Path(__file__).parents[3] / "docs/reference/dialects.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("Chat completions", chat),
        ("Completions", completions),
        ("Embeddings", embeddings),
        ("Responses", responses),
        ("Messages", messages),
    ],
)
def test_every_member_without_effect_or_refused_is_in_its_table(section: str, module: Any) -> None:
    rows = {row.split("|")[1].strip(): row for row in SECTIONS[section].splitlines() if row.startswith("| ")}

    for name in module.IGNORED:
        assert f"`{name}`" in rows["Without effect"]
    for name in getattr(module, "REFUSED", ()):
        assert f"`{name}`" in rows["Refused"]
    read = rows["Read"] + rows.get("Read, of other servers", "") + rows["Refused"]
    for name in module._READ:
        assert re.search(rf"`{name}[`.]", read), name


def test_every_finish_reason_and_feature_is_on_the_page() -> None:
    for words in TABLE.values():
        assert f"`{words.chat}`" in TEXT and f"`{words.anthropic}`" in TEXT
    for feature in ALL_FEATURES:
        assert f"`{feature}`" in TEXT
