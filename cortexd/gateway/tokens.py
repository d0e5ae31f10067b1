"""Bearer tokens of neurons, from the files that ``token_ref`` names; read again after a while, so they can change."""

from __future__ import annotations

import time
from pathlib import Path

_FRESH_S = 10.0


class Tokens:
    """A small cache. The values are for the wire only: they are never logged."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[float, str]] = {}

    def get(self, path: Path) -> str:
        """The token in a file. Raises OSError when it cannot be read."""
        at, token = self._read.get(path, (-_FRESH_S, ""))
        now = time.monotonic()
        if now - at >= _FRESH_S:
            token = path.read_text(encoding="utf-8").strip()
            self._read[path] = (now, token)
        return token
