"""A finding about the user's files, and its two renderings: text for people, JSON for tools. Pure."""

from __future__ import annotations

import difflib
import re
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

KeyPath = tuple[str | int, ...]

# Excerpts show this much of a line (characters).
_WIDEST = 160

# Whatever follows such a key (or // before a user's name) in an excerpt may be a secret: it is not shown.
_SECRET = re.compile(
    r"""(?:secret|passw|passphrase|bearer|token(?!s|_file)|url|\bkey|api_?key)\w*["']?\s*=|//(?=[^/\s"']*@)""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a file. ``line`` and ``column`` count from 1; the caret underlines ``length`` characters."""

    file: str
    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. ``code`` is stable (see ``codes``), ``path`` the key path, ``hint`` what to do about it."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    span: Span
    path: KeyPath = ()
    hint: str | None = None

    @property
    def order(self) -> tuple[Span, str, str]:
        """Diagnostics are reported in this order."""
        return (self.span, self.code, self.message)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Whether one of them forbids a generation."""
    return any(d.severity == "error" for d in diagnostics)


def path_text(path: KeyPath) -> str:
    """``neurons[0].devices[1].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint with the closest known word, else the list of the known ones if that is short, else nothing."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, _near(word, names), n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if names and len(names) <= 12:
        return "known: " + ", ".join(names)
    return None


def _near(word: str, names: list[str]) -> list[str]:
    """Of many names (sorted) those that begin or end most like ``word``: comparing it to all would take too long."""
    if len(names) <= 200:
        return names
    near = names[max(0, bisect(names, word) - 20) :][:40]
    backwards = sorted(name[::-1] for name in names)
    return near + [name[::-1] for name in backwards[max(0, bisect(backwards, word[::-1]) - 20) :][:40]]


def render_text(diagnostics: Sequence[Diagnostic], files: Mapping[str, Sequence[str]]) -> str:
    """The findings for a terminal; ``files`` maps a file's name to its lines, for the excerpts."""
    blocks = []
    for d in sorted(diagnostics, key=lambda d: d.order):
        block = [f"{d.span.file}:{d.span.line}:{d.span.column}: {d.severity}[{d.code}]: {d.message}"]
        lines = files.get(d.span.file, ())
        if d.span.line <= len(lines) and lines[d.span.line - 1].strip():
            block += _excerpt(lines[d.span.line - 1], d.span)
        if d.path:
            block.append(f"  at: {path_text(d.path)}")
        if d.hint:
            block.append(f"  hint: {d.hint}")
        blocks.append("\n".join(block))
    return "\n".join(blocks) + ("\n" if blocks else "")


def _excerpt(line: str, span: Span) -> list[str]:
    if span.file.startswith("$") and span.column == 1:  # about the variable itself; nobody knows what its value is
        line = line.partition("=")[0] + "=…"
    elif secret := _SECRET.search(line):
        line = line[: secret.end()] + ("…" if line[secret.end() - 1] == "/" else " …")
    column = min(span.column, len(line))
    length = max(1, min(span.length, len(line) - column + 1))
    if len(line) > _WIDEST:
        start = max(0, min(column - 40, len(line) - _WIDEST))
        line = ("…" if start else "") + line[start + bool(start) : start + _WIDEST] + "…"
        column -= start
        length = max(1, min(length, len(line) - column))
    gutter = f"{span.line:>5} | "
    # tabs stay tabs under the line, so that the caret stands where it should
    indent = "".join("\t" if c == "\t" else " " * _cells(c) for c in line[: column - 1])
    carets = "^" * max(1, sum(_cells(c) for c in line[column - 1 : column - 1 + length]))
    return [gutter + line, " " * (len(gutter) - 2) + "| " + indent + carets]


def _cells(character: str) -> int:
    """How much room a character takes on a terminal."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def as_json(diagnostics: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    """The findings as plain values, sorted."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "file": d.span.file,
            "line": d.span.line,
            "column": d.span.column,
            "length": d.span.length,
            "path": list(d.path),
            "hint": d.hint,
        }
        for d in sorted(diagnostics, key=lambda d: d.order)
    ]
