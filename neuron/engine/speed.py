"""How fast: tokens per second, smoothed."""

from __future__ import annotations

_SMOOTHING = 0.2


class Speed:
    """Tokens per second, smoothed over the last steps."""

    def __init__(self) -> None:
        self.tokens_per_s = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        if seconds > 0:
            now = tokens / seconds
            self.tokens_per_s += (now - self.tokens_per_s) * (_SMOOTHING if self.tokens_per_s else 1.0)
