"""Phase 1: text to data with positions. Pure."""

from __future__ import annotations

import re
import tomllib

from compiler import codes
from compiler.diagnostics import Diagnostic, Span
from compiler.source import Source, read, split_lines

_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")

_TWICE = re.compile(r"Cannot declare (\(.*\)) twice")

_HINTS = {
    "Invalid value": 'text needs quotes, as in name = "lab"',
    "Illegal character '\\n'": "the closing quote is missing",
    "Unterminated string": "the closing quote is missing",
    "Cannot overwrite a value": "this key stands twice in its table",
}


def parse(name: str, text: str) -> tuple[Source, list[Diagnostic]]:
    """The file's data and where each key stands. TOML ends at its first mistake, so there is at most one diagnostic."""
    if text.startswith("\ufeff"):
        message = "not TOML: it begins with a byte order mark"
        without = "save it as UTF-8 without one"
        return Source(name, text), [Diagnostic(codes.SYNTAX, "error", message, Span(name, 1, 1), (), without)]
    try:
        return read(name, text), []
    except tomllib.TOMLDecodeError as e:
        message = str(e)
        lines = split_lines(text)
        if place := _PLACE.search(message):
            span = Span(name, int(place[1]), int(place[2]))
            message = message[: place.start()]
        else:  # "(at end of document)"
            last = max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
            span = Span(name, last, len(lines[last - 1]) or 1)
        hint: str | None = _HINTS.get(message)
        if twice := _TWICE.fullmatch(message):
            header = ".".join(re.findall(r"'([^']*)'", twice[1]))
            message, hint = f"[{header}] stands twice", "put its keys under the first one"
        return Source(name, text), [Diagnostic(codes.SYNTAX, "error", f"not TOML: {message}", span, (), hint)]
    except RecursionError:
        message = "not TOML: values are nested too deeply"
        return Source(name, text), [Diagnostic(codes.SYNTAX, "error", message, Span(name, 1, 1))]
