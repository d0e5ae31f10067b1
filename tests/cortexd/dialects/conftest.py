"""Recorded transcripts: `CORTEXD_RECORD=1 pytest` writes them anew, and git shows what changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine must not fail an example for being slow; what has to be fast is timed on its own.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

FOLDER = Path(__file__).parent / "transcripts"


@pytest.fixture
def golden() -> Callable[[str, bytes], None]:
    """Compare bytes with a recorded file."""

    def check(name: str, found: bytes) -> None:
        path = FOLDER / name
        if os.environ.get("CORTEXD_RECORD"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(found)
        assert path.read_bytes() == found

    return check
