"""Where something stands inside ``[…]`` or ``{…}``: as in ``source``, ``tomllib`` is asked about pieces. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from compiler.diagnostics import KeyPath

# Text of ``KEY = VALUE`` -> the key's path, and where it ends.
ReadKey = Callable[[str], tuple[KeyPath, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """An element, or a key with its value: offsets in the text. ``key`` is empty for an element."""

    key: KeyPath
    start: int
    key_end: int
    value: int
    end: int


def locate(text: str, start: int, end: int, path: KeyPath, read_key: ReadKey) -> Piece | None:
    """What ``path`` leads to within the value ``text[start:end]``; None if it is not there."""
    found: Piece | None = None
    while path:
        pieces = _pieces(text, start, end, read_key)
        if isinstance(path[0], int):
            found = pieces[path[0]] if path[0] < len(pieces) and not pieces[path[0]].key else None
            used = 1
        else:
            found = next((p for p in pieces if p.key and p.key == path[: len(p.key)]), None)
            used = len(found.key) if found else 0
        if found is None:
            return None
        path, start, end = path[used:], found.value, found.end
    return found


@lru_cache(maxsize=256)
def _pieces(text: str, start: int, end: int, read_key: ReadKey) -> tuple[Piece, ...]:
    """What stands between the brackets, cut at those commas where the part before is whole."""
    opening = text[start : start + 1]
    if opening not in ("[", "{") or end - start < 2:
        return ()
    pieces = []
    here = start + 1
    for comma in [n for n in range(here, end - 1) if text[n] == ","] + [end - 1]:
        part = text[here:comma]
        if opening == "[" and _count(f"x = [\n{part}\n]") == 1:
            first = _skip_comments(text, here)
            pieces.append(Piece((), first, first, first, _without_comment(text, first, comma)))
        elif opening == "{" and _count(f"x = {{{part}}}") == 1:
            first = here + len(part) - len(part.lstrip())
            key, key_length = read_key(part.strip())
            value = text.index("=", first + key_length) + 1
            value += len(text[value:comma]) - len(text[value:comma].lstrip())
            pieces.append(Piece(key, first, first + key_length, value, here + len(part.rstrip())))
        else:
            continue
        here = comma + 1
    return tuple(pieces)


def _loads(text: str) -> Any:
    try:
        return tomllib.loads(text)["x"]
    except tomllib.TOMLDecodeError:
        return None


def _count(text: str) -> int:
    value = _loads(text)
    return len(value) if value is not None else -1


def _skip_comments(text: str, start: int) -> int:
    while True:
        start += len(text[start:]) - len(text[start:].lstrip())
        if text[start : start + 1] != "#":
            return start
        start = text.index("\n", start)


def _without_comment(text: str, start: int, end: int) -> int:
    """Where an element ends, before comments that follow it."""
    whole = _loads(f"x = [\n{text[start:end]}\n]")
    for offset in range(start, end):
        if text[offset] == "#" and _loads(f"x = [\n{text[start:offset]}\n]") == whole:
            end = offset
            break
    return start + len(text[start:end].rstrip())
