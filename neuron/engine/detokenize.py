"""From tokens to text, one token at a time: whole characters only, and nothing that may be part of a stop string.

No tokenizer is imported here; a callable that turns ids into text is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

_UNFINISHED = "\ufffd"  # what decoders write for bytes that are no whole character (yet)
_LONGEST_CHARACTER = 16  # tokens; what is no character by then never becomes one


class TokenText(Protocol):
    """A growing text."""

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end, unfinished characters as U+FFFD."""
        ...


class IncrementalText:
    """``TokenText`` over ``decode(ids) -> str``: decodes a short window twice and takes the difference.

    The window starts a few tokens back, because what a token reads as may depend on the ones before it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = 0  # ids whose text was given out; those before them are context

    def push(self, token: int) -> str:
        self._ids.append(token)
        before = self._decode(self._ids[: self._shown])
        text = self._decode(self._ids)
        pending = len(self._ids) - self._shown
        if len(text) <= len(before) or (text.endswith(_UNFINISHED) and pending < _LONGEST_CHARACTER):
            return ""
        self._ids = self._ids[self._shown :]
        self._shown = len(self._ids)
        return text[len(before) :]

    def flush(self) -> str:
        before = self._decode(self._ids[: self._shown])
        text = self._decode(self._ids)
        self._shown = len(self._ids)
        return text[len(before) :]


class StepText:
    """``TokenText`` over a ``step(token) -> str | None`` that keeps its own state (``tokenizers`` ``DecodeStream``).

    Such a stream has no end: bytes of an unfinished character at the very end are dropped.
    """

    def __init__(self, step: Callable[[int], str | None]) -> None:
        self._step = step

    def push(self, token: int) -> str:
        return self._step(token) or ""

    def flush(self) -> str:
        return ""


class Detokenizer:
    """Text for a client. ``stopped`` is the stop string that was found; after that every call returns "".

    The stop string itself, and whatever follows it, is never part of the text. Of several, the one that is complete
    first counts, and of those the longest: as if the text came character by character, however the tokens cut it.

    ``received`` counts the characters that came from the tokens so far, ``shown`` those that were given out.
    """

    def __init__(self, source: TokenText, stop: Sequence[str] = ()) -> None:
        if any(not s for s in stop):
            raise ValueError("a stop string must not be empty")
        self._source = source
        self._stop = tuple(stop)
        self._held = ""
        self.received = 0
        self.shown = 0
        self.stopped: str | None = None

    def push(self, token: int) -> str:
        """The text that may be shown after this token."""
        return "" if self.stopped is not None else self._show(self._source.push(token))

    def finish(self) -> str:
        """The text that was held back, once no token follows."""
        if self.stopped is not None:
            return ""
        text = self._show(self._source.flush()) + self._held
        self.shown += len(self._held)
        self._held = ""
        return text

    def _show(self, new: str) -> str:
        text = self._held + new
        self.received += len(new)
        found = [(at + len(s), at, s) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            _, at, self.stopped = min(found)
            self._held = ""
            self.shown += at
            return text[:at]
        hold_from = self._possible_start(text)
        self._held = text[hold_from:]
        self.shown += hold_from
        return text[:hold_from]

    def _possible_start(self, text: str) -> int:
        """Where the earliest unfinished beginning of a stop string starts at the end of ``text``; its end for none."""
        longest = max((len(s) for s in self._stop), default=0)
        for at in range(max(0, len(text) - longest + 1), len(text)):
            tail = text[at:]
            if any(len(s) > len(tail) and s.startswith(tail) for s in self._stop):
                return at
        return len(text)
