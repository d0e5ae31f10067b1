"""Reasoning in the text of a model: ``<think>…</think>`` before the answer (the parser ``think``).

Incremental. Reasoning begins with the answer, or began in the prompt where the template writes the first mark there;
a mark later in the text is text. Line breaks beside the marks belong to them.
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class ReasoningSplitter:
    """Text to (reasoning, content). ``content_from``: where in the whole text content begins, once known."""

    def __init__(self, *, enabled: bool = True, inside: bool = False) -> None:
        self._state = "content" if not enabled else "inside" if inside else "before"
        self._held = ""
        self._at = 0  # place of ``_held`` in the whole text
        self._said = False  # whether reasoning has begun
        self.content_from: int | None = None if enabled else 0

    @property
    def inside(self) -> bool:
        """Whether what comes next is reasoning, as far as is known."""
        return self._state == "inside"

    def push(self, text: str) -> tuple[str, str]:
        """What this text completes."""
        if self._state == "content":
            return "", text
        self._held += text
        if self._state == "before":
            start = self._held.lstrip()
            if not start or (OPEN.startswith(start) and start != OPEN):
                return "", ""
            if not start.startswith(OPEN):
                return "", self._content(0)
            self._take(len(self._held) - len(start) + len(OPEN))
            self._state = "inside"
        reasoning = ""
        if self._state == "inside":
            end = self._held.find(CLOSE)
            if end < 0:
                keep = _overlap(self._held, CLOSE)
                return self._reasoning(len(self._held) - keep), ""
            reasoning = self._reasoning(end, last=True)
            self._take(len(CLOSE))
            self._state = "after"
        stripped = self._held.lstrip("\r\n")
        return reasoning, self._content(len(self._held) - len(stripped)) if stripped else ""

    def finish(self) -> tuple[str, str]:
        """What was held back, once no text follows."""
        state, self._state = self._state, "content"
        held, self._held = self._held, ""
        if self.content_from is None:
            self.content_from = self._at + (0 if state == "before" else len(held))
        if state == "inside":
            return held.rstrip("\r\n"), ""
        return "", held if state == "before" else ""

    def _reasoning(self, end: int, *, last: bool = False) -> str:
        """Take reasoning up to ``end``; line breaks at its end wait for more, those at its start are dropped."""
        text = self._held[:end]
        if not self._said:
            self._take(len(text) - len(text.lstrip("\r\n")))
            text = text.lstrip("\r\n")
        shown = text.rstrip("\r\n")
        self._take(len(text) if last else len(shown))
        self._said = self._said or bool(shown)
        return shown

    def _content(self, skip: int) -> str:
        self._take(skip)
        self._state, self.content_from = "content", self._at
        text, self._held = self._held, ""
        return text

    def _take(self, count: int) -> None:
        self._held = self._held[count:]
        self._at += count


def opened(prompt_end: str) -> bool:
    """Whether a prompt that ends so has begun the reasoning itself."""
    return prompt_end.rstrip().endswith(OPEN)


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of ``text`` that begins ``marker``."""
    return next((n for n in range(min(len(marker) - 1, len(text)), 0, -1) if text.endswith(marker[:n])), 0)
