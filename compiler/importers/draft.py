"""The two files while they are drawn up: tables of lines and remarks, and the list of what needs a look."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from compiler.diagnostics import KeyPath
from compiler.importers.secrets import shown
from compiler.importers.tree import Node, printable

Kind = Literal["left out", "guess", "to do"]
# A remark shows at most this much of a value.
SHOWN_CHARACTERS = 600
_ORDER = ("fleet", "gateway", "eviction", "hosts", "neurons", "accounts", "keys", "models", "aliases")


@dataclass(frozen=True, slots=True)
class Note:
    """What could not be carried over as it was. ``key`` and ``value`` are the original's, without secrets.

    ``left out``: has no counterpart; ``guess``: was carried over on a guess; ``to do``: a person must fill it in.
    """

    kind: Kind
    file: str
    line: int
    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.key}: {self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(slots=True)
class Line:
    """``key = value``, with a remark behind it. ``origin`` is where the value comes from."""

    key: tuple[str, ...]
    value: Any
    origin: Node | None
    about: str = ""

    def render(self) -> str:
        """As TOML."""
        text = f"{'.'.join(toml_key(part) for part in self.key)} = {toml_value(self.value)}"
        return text + (f"  # {printable(self.about)}" if self.about else "")


@dataclass(slots=True)
class Table:
    """``[name]`` or, ``listed``, ``[[name]]``. ``dead`` says why all of it is a comment."""

    name: str
    listed: bool = False
    parts: list[Line | str] = field(default_factory=list)
    dead: str = ""

    def put(self, key: str | tuple[str, ...], value: Any, origin: Node | None = None, about: str = "") -> None:
        """Add a line."""
        self.parts.append(Line((key,) if isinstance(key, str) else key, value, origin, about))

    def remark(self, text: str) -> None:
        """Add a comment."""
        self.parts.append(text)

    def get(self, *key: str) -> Any:
        """The value of a line; None if there is none."""
        return next((p.value for p in self.parts if isinstance(p, Line) and p.key == key), None)

    def render(self) -> list[str]:
        """Its lines; all comments if it is dead."""
        head = f"[[{self.name}]]" if self.listed else f"[{self.name}]"
        lines = [head, *(f"# {printable(p)}".rstrip() if isinstance(p, str) else p.render() for p in self.parts)]
        if not self.dead:
            return lines
        return [f"# {printable(self.dead)}", *(line if line.startswith("#") else f"# {line}" for line in lines)]


@dataclass(slots=True)
class Document:
    """One file. ``wanted``: the lists that it cannot do without."""

    intro: list[str]
    wanted: tuple[str, ...] = ()
    tables: list[Table] = field(default_factory=list)

    def table(self, name: str) -> Table:
        """The table of that name; it is made if it is not there."""
        found = next((t for t in self.tables if t.name == name and not t.listed), None)
        return found or self._add(Table(name))

    def entry(self, name: str) -> Table:
        """A new ``[[name]]``."""
        return self._add(Table(name, listed=True))

    def entries(self, name: str) -> list[Table]:
        """The ``[[name]]`` that are no comments, in order."""
        return [t for t in self.tables if t.name == name and t.listed and not t.dead]

    def at(self, path: KeyPath) -> tuple[Table | None, list[Line]]:
        """The table and, where the path goes on, the lines that a key path of the rendered file means."""
        if not path:
            return None, []
        if len(path) > 1 and isinstance(path[1], int):
            entries = self.entries(str(path[0]))
            table, rest = (entries[path[1]] if path[1] < len(entries) else None), path[2:]
        else:
            named = [t for t in self.tables if t.name == path[0] and not t.listed and not t.dead]
            table, rest = (named[0] if named else None), path[1:]
        if table is None or not rest:
            return table, []
        lines = [p for p in table.parts if isinstance(p, Line)]
        return table, [x for x in lines if x.key == rest[: len(x.key)] or x.key[: len(rest)] == rest]

    def render(self) -> str:
        """The file. Empty tables are left out, unless one says why."""
        intro = [*self.intro, *(f"to do: declare [[{n}]]" for n in self.wanted if not self.entries(n))]
        blocks = ["\n".join(f"# {printable(line)}".rstrip() for line in intro)]
        tables = sorted(self.tables, key=lambda t: _ORDER.index(t.name))
        blocks += ["\n".join(t.render()) for t in tables if t.parts]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def _add(self, table: Table) -> Table:
        self.tables.append(table)
        return table


@dataclass(slots=True)
class Draft:
    """Both files and the notes."""

    fleet: Document
    models: Document
    notes: list[Note] = field(default_factory=list)

    def note(self, kind: Kind, node: Node, reason: str, table: Table | None = None) -> None:
        """Put a note on the list, and beside where it belongs."""
        value = shown(node.value, node.key, _below_secret(node))
        self.notes.append(Note(kind, node.tree.file, node.tree.line(node.path), node.name, value, reason))
        if table is not None:
            table.remark(f"{kind}: {node.name} = {value_text(value)} ({node.place}): {reason}")

    def left_out(self, node: Node, reason: str, table: Table | None = None) -> None:
        """The original has something that cortexd has no counterpart for."""
        self.note("left out", node, reason, table)


def _below_secret(node: Node) -> bool:
    """Whether a key further up says that nothing below it may be shown. Ids of models and the like are no such keys."""
    from compiler.importers.secrets import suspect

    above = [part for part in node.path[:-1] if isinstance(part, str)]
    return bool(above) and any(suspect(part) for part in above[:1] + above[2:])


def value_text(value: Any) -> str:
    """A value on one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def toml_key(key: str) -> str:
    """Bare where TOML allows it."""
    bare = key.isascii() and key and all(c.isalnum() or c in "-_" for c in key)
    return key if bare else toml_value(key)


def toml_value(value: Any) -> str:
    """A TOML literal on one line. Raises TypeError for what TOML has no literal for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value if v is not None) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items() if v is not None)
        return "{ " + inner + " }" if inner else "{}"
    if hasattr(value, "isoformat"):  # dates and times of a TOML file
        return str(value.isoformat())
    raise TypeError(f"no TOML literal for {type(value).__name__}")
