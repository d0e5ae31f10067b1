"""A folder with two files, the artifacts they name, and a way to compile variants of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from compiler.pipeline import compile_files
from tests.compiler.artifacts import make_all

FLEET = """
[fleet]
name = "lab"
[gateway]
workers = WORKERS
[[hosts]]
name = "here"
address = "127.0.0.1"
[[neurons]]
name = "local"
host = "here"
endpoint = "http://127.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
"""
MODELS = """
[[models]]
id = "chat"
source = "path:artifacts/chat"
task = "chat"
[aliases]
default = "chat"
"""


@dataclass
class Place:
    """``var`` is the state directory of a fleet whose files lie in ``folder``."""

    folder: Path

    @property
    def var(self) -> Path:
        return self.folder / "var"

    def compile(self, workers: int = 2, models: str = MODELS) -> Path:
        """The folder of a generation."""
        (self.folder / "fleet.toml").write_text(FLEET.replace("WORKERS", str(workers)))
        (self.folder / "models.toml").write_text(models)
        outcome = compile_files(self.folder / "fleet.toml", self.folder / "models.toml", self.folder / "build")
        assert outcome.emitted is not None, outcome.text()
        return outcome.emitted.folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_all(tmp_path)
    return Place(tmp_path)
