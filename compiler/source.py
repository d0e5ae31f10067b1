"""Where each key of a TOML file stands. The standard library keeps no positions, but can be asked about pieces.

The smallest run of lines that ``tomllib`` accepts is one statement. Its header or key, parsed alone, gives the path. So
no lexer of our own can disagree with the real one. Pure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compiler.diagnostics import KeyPath, Span


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
class Source:
    """A file that parses (``data``), or does not (``data`` is None, and nothing has a place of its own)."""

    name: str
    text: str
    data: Mapping[str, Any] | None = None
    statements: Mapping[KeyPath, Statement] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """As an editor counts them."""
        return split_lines(self.text)

    def span(self, path: KeyPath, at: Literal["key", "value"] = "value") -> Span:
        """The place of a key path; for one that has none (it is missing), that of its nearest parent."""
        known = path
        while known and known not in self.statements:
            known = known[:-1]
        if not known:
            return Span(self.name, 1, 1)
        statement = self.statements[known]
        start = len(statement.text) - len(statement.text.lstrip())
        if known != path:
            inside = self._inside(statement, path, len(known))
            return inside or statement.span(self.name, start, statement.key_end)
        value = _value_start(statement)
        if at == "key" or value is None:
            return statement.span(self.name, start, statement.key_end)
        return statement.span(self.name, value, _value_end(statement, value))

    def _inside(self, statement: Statement, path: KeyPath, known: int) -> Span | None:
        """A key or an array element inside an inline value: found by its text, if that occurs once."""
        value = _value_start(statement)
        if value is None:
            return None
        wanted: object = path[-1]
        if isinstance(wanted, int):
            wanted = _at(self.data, path)
            forms = [f'"{wanted}"', f"'{wanted}'"] if isinstance(wanted, str) else [str(wanted)]
        else:
            forms = [str(wanted)]
        for form in forms:
            if statement.text.count(form, value) == 1:
                offset = statement.text.index(form, value)
                return statement.span(self.name, offset, offset + len(form))
        return None


def read(name: str, text: str) -> Source:
    """Parse a file. Raises tomllib.TOMLDecodeError."""
    data = tomllib.loads(text)
    return Source(name, text, data, index(text))


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

    for line, chunk in _chunks(text):
        head = chunk.lstrip()
        if head.startswith("["):
            header = _header(chunk)
            statement = Statement(line, chunk, _header_end(chunk, header))
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


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """First line and text of each statement."""
    held: list[str] = []
    start = 0
    for number, line in enumerate(split_lines(text), 1):
        if not held:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        held.append(line)
        chunk = "\n".join(held)
        if _parses(chunk):
            yield start, chunk
            held = []


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


def _value_end(statement: Statement, start: int) -> int:
    """Before a comment at the end of the line, if the value without it still parses to the same."""
    text = statement.text
    whole = tomllib.loads(text)
    for offset in range(start, len(text)):
        if text[offset] == "#" and _parses(text[:offset]) and tomllib.loads(text[:offset]) == whole:
            return len(text[:offset].rstrip())
    return len(text.rstrip())


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data
