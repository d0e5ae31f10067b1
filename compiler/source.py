"""Where each key of a TOML file stands. The standard library keeps no positions, but can be asked about pieces.

The smallest run of lines that ``tomllib`` accepts is one statement. Its header or key, parsed alone, gives the path. So
no lexer of our own can disagree with the real one. Pure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

from compiler.diagnostics import KeyPath, Span
from compiler.inline import locate

# The plain forms of a statement, which mean the same in any reading of TOML: asking tomllib about each costs seconds
# in a file of a thousand entries. Whatever looks any different is left to it.
_PLAIN = re.compile(
    r"""[ \t]*(?:
        \[(?P<array>\[)?(?P<header>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\](?(array)\])
        | (?P<key>[A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:"[ !#-\[\]-~]*"|true|false|0|[1-9][0-9]*)
    )[ \t]*(?:\#.*)?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A header or ``key = value``. ``line`` from 1; ``key_end`` is the offset in ``text`` where header or key ends."""

    line: int
    text: str
    key_end: int

    def span(self, file: str, start: int, end: int) -> Span:
        """The part of this statement between two offsets, cut at the end of its first line."""
        before = self.text[:start]
        column = start - (before.rfind("\n") + 1) + 1
        stop = self.text.find("\n", start)
        length = min(end, stop if stop >= 0 else len(self.text)) - start
        return Span(file, self.line + before.count("\n"), column, max(1, length))


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment that stands for a value of the file. Its place is a line NAME=VALUE of its own."""

    name: str
    value: str

    @property
    def file(self) -> str:
        """What diagnostics name as the file."""
        return f"${self.name}"

    @property
    def lines(self) -> list[str]:
        return split_lines(f"{self.name}={self.value}")

    def span(self, at: Literal["key", "value"] = "value") -> Span:
        if at == "key" or not self.lines[0][len(self.name) + 1 :]:
            return Span(self.file, 1, 1, len(self.name))
        return Span(self.file, 1, len(self.name) + 2, len(self.lines[0]) - len(self.name) - 1)


@dataclass(frozen=True)
class Source:
    """A file that parses (``data``), or does not (``data`` is None, and nothing has a place of its own).

    ``variables`` holds what the environment says instead of the file, by key path; ``data`` has it in place already.
    """

    name: str
    text: str
    data: Mapping[str, Any] | None = None
    variables: Mapping[KeyPath, Variable] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """As an editor counts them."""
        return split_lines(self.text)

    @cached_property
    def statements(self) -> Mapping[KeyPath, Statement]:
        """Key path -> the statement that declares it. Made for the first finding: a file without one needs none."""
        return {} if self.data is None else index(self.text)

    def span(self, path: KeyPath, at: Literal["key", "value"] = "value") -> Span:
        """The place of a key path; for one that has none (it is missing), that of its nearest parent."""
        if self.variables and (variable := self._variable(path)):
            return variable.span(at)
        return self._in_file(path, at)

    def _variable(self, path: KeyPath) -> Variable | None:
        """The one that the value comes from; for a table that only variables declare, the first of these."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.variables:
                return self.variables[path[:end]]
        if path and path[:1] not in self.statements:
            return next((v for key, v in self.variables.items() if key[: len(path)] == path), None)
        return None

    def _in_file(self, path: KeyPath, at: Literal["key", "value"]) -> Span:
        known = path
        while known and known not in self.statements:
            known = known[:-1]
        if not known:
            return Span(self.name, 1, 1)
        statement = self.statements[known]
        start = len(statement.text) - len(statement.text.lstrip())
        if known != path:
            inside = self._inside(statement, path[len(known) :], at)
            return inside or statement.span(self.name, start, statement.key_end)
        value = _value_start(statement)
        if at == "key" or value is None:
            return statement.span(self.name, start, statement.key_end)
        return statement.span(self.name, value, _value_end(statement, value))

    def _inside(self, statement: Statement, path: KeyPath, at: Literal["key", "value"]) -> Span | None:
        """A key or an element inside an inline value; for one that is missing, the innermost table that lacks it."""
        value = _value_start(statement)
        if value is None:
            return None
        end = _value_end(statement, value)
        piece = locate(statement.text, value, end, path, _key)
        if piece is None:
            outer = path[:-1]
            return self._inside(statement, outer, "value") if outer else statement.span(self.name, value, end)
        if at == "key" and piece.key:
            return statement.span(self.name, piece.start, piece.key_end)
        return statement.span(self.name, piece.value, piece.end)


def read(name: str, text: str) -> Source:
    """Parse a file. Raises tomllib.TOMLDecodeError."""
    return Source(name, text, tomllib.loads(text))


def split_lines(text: str) -> list[str]:
    """Lines as TOML has them: ``str.splitlines`` would also split at characters that may stand in a string."""
    return text.replace("\r\n", "\n").split("\n")


def index(text: str) -> dict[KeyPath, Statement]:
    """Key path -> the statement that declares it. ``text`` must be valid. Implicit parents get their first mention."""
    found: dict[KeyPath, Statement] = {}
    counts: dict[KeyPath, int] = {}
    prefix: KeyPath = ()

    def within(path: KeyPath) -> KeyPath:
        """The path with the current index after each array of tables."""
        out: KeyPath = ()
        for part in path:
            out += (part,)
            if out in counts:
                out += (counts[out] - 1,)
        return out

    def record(path: KeyPath, statement: Statement) -> None:
        for n in range(1, len(path)):
            found.setdefault(path[:n], statement)
        found[path] = statement

    for line, chunk, plain in _chunks(text):
        head = chunk.lstrip()
        if plain and plain["key"]:
            record((*prefix, plain["key"]), Statement(line, chunk, plain.end("key")))
        elif head.startswith("["):
            header: KeyPath = tuple(plain["header"].split(".")) if plain else _header(chunk)
            # the brackets of an array of tables are two
            end = chunk.index("]", plain.end("header")) + 1 + bool(plain["array"]) if plain else None
            statement = Statement(line, chunk, end or _header_end(chunk, header))
            if head.startswith("[["):
                array = within(header[:-1]) + header[-1:]
                counts[array] = counts.get(array, 0) + 1
                prefix = (*array, counts[array] - 1)
                found.setdefault(array, statement)
            else:
                prefix = within(header)
            record(prefix, statement)
        else:
            key, end = _key(chunk)
            record(prefix + key, Statement(line, chunk, end))
    return found


def _chunks(text: str) -> Iterator[tuple[int, str, re.Match[str] | None]]:
    """First line and text of each statement, and its parts if it is a plain one."""
    held: list[str] = []
    start = 0
    closing = ""
    for number, line in enumerate(split_lines(text), 1):
        if not held:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
            if plain := _PLAIN.fullmatch(line):
                yield start, line, plain
                continue
        held.append(line)
        # Parsing after each line of a long list would take the square of its length.
        if len(held) > 1 and not _may_end(line, closing):
            continue
        chunk = "\n".join(held)
        if _parses(chunk):
            yield start, chunk, None
            held = []
        elif len(held) == 1:
            closing = _closing(line)


def _closing(line: str) -> str:
    """What a value of several lines, which begins in this one, ends with."""
    value = line[_key(line)[1] :].lstrip().removeprefix("=").lstrip()
    return {"[": "]", "{": "}"}.get(value[0], value[0])


def _may_end(line: str, closing: str) -> bool:
    """Whether the value can end in this line: with its last bracket or quote, then only a comment."""
    return line.rstrip().endswith(closing) or any(
        line[:n].rstrip().endswith(closing) for n, character in enumerate(line) if character == "#"
    )


def _parses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _only_path(value: Any, stop: type) -> KeyPath:
    path: KeyPath = ()
    while isinstance(value, dict | list) and value:
        if isinstance(value, list):
            value = value[0]
            continue
        ((part, value),) = value.items()
        path += (part,)
        if isinstance(value, stop):
            break
    return path


def _header(chunk: str) -> KeyPath:
    return _only_path(tomllib.loads(chunk), type(None))


def _header_end(chunk: str, header: KeyPath) -> int:
    """Behind the bracket: the shortest prefix that means the same header (what follows can only be a comment)."""
    for end, character in enumerate(chunk, 1):
        if character == "]" and _parses(chunk[:end]) and _header(chunk[:end]) == header:
            return end
    return len(chunk.rstrip())


def _key(chunk: str) -> tuple[KeyPath, int]:
    """Path and end of the key: with ``0`` for its value, nothing of the value can be mistaken for a part of it."""
    for offset, character in enumerate(chunk):
        if character == "=" and _parses(chunk[:offset] + "= 0"):
            return _only_path(tomllib.loads(chunk[:offset] + "= 0"), int), len(chunk[:offset].rstrip())
    raise ValueError(f"not a statement: {chunk!r}")


def _value_start(statement: Statement) -> int | None:
    rest = statement.text[statement.key_end :]
    if not rest.lstrip().startswith("="):
        return None
    behind = statement.key_end + rest.index("=") + 1
    return behind + len(statement.text[behind:]) - len(statement.text[behind:].lstrip())


@lru_cache(maxsize=256)
def _value_end(statement: Statement, start: int) -> int:
    """Before a comment at the end of its last line, if the value without it still parses to the same."""
    text = statement.text
    whole = tomllib.loads(text)
    for offset in range(max(start, text.rfind("\n") + 1), len(text)):
        if text[offset] == "#" and _parses(text[:offset]) and tomllib.loads(text[:offset]) == whole:
            return len(text[:offset].rstrip())
    return len(text.rstrip())
