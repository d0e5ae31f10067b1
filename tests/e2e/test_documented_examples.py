"""The blocks of the tutorial and the README, run in order on a fleet that is up, as a reader would paste them.

``<!-- exit: N -->`` before a block tells that it ends with status N on purpose. Ports and the programs' folder are this
fleet's own; lines that set up or start the fleet itself are what the fixture did.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Fleet

PAGES = ("docs/tutorial/first-fleet.md", "README.md")
STARTS = re.compile(r"^(make \w+|\S*cortexd up\b.*)", re.MULTILINE)


def blocks(page: str) -> list[tuple[str, int, str]]:
    """Language, expected exit status and text."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"(?:<!-- exit: (\d+) -->\n+)?^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(language, int(status or 0), body) for status, language, body in found]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this checkout's programs, for PATH."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("cortexd", "neuron"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_to_type_works(page: str, fleet: Fleet, programs: Path) -> None:
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = 0
    for example in ("fleet.toml", "models.toml"):  # the reader's checkout has them
        (fleet.folder / f"{example}.example").write_bytes((fleet.folder / example).read_bytes())
    for language, status, body in blocks(page):
        if language not in ("sh", "python"):
            continue
        text = STARTS.sub("", body).replace(".venv/bin/", "").replace("/opt/cortexd/bin/", "")
        for port, address in ((31313, fleet.base), (31314, fleet.metrics)):
            text = text.replace(str(port), address.rsplit(":", 1)[1])
        command = ["bash", "-eo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=fleet.folder, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, f"{page}:\n{body}\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran >= 1
