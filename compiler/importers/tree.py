"""A file that is read in: plain values, and the line where each stands, whether the file is YAML or TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compiler.diagnostics import KeyPath, path_text
from compiler.source import read


class ImportFailed(Exception):
    """A file that cannot be read in. The message is one line: file, line, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """``lines`` maps the path of each value to its line, from 1."""

    file: str
    data: Any
    lines: Mapping[KeyPath, int] = field(repr=False)

    @property
    def root(self) -> Node:
        return Node(self, (), self.data)

    def line(self, path: KeyPath) -> int:
        """That of the value, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(frozen=True, slots=True)
class Node:
    """A value in its file."""

    tree: Tree
    path: KeyPath
    value: Any

    @property
    def place(self) -> str:
        """FILE:LINE."""
        return f"{self.tree.file}:{self.tree.line(self.path)}"

    @property
    def name(self) -> str:
        """The path in words, on one line: ``models.llama.cmd``."""
        return printable(path_text(self.path)) or "the file"

    @property
    def key(self) -> str:
        """The last part of the path that is a key."""
        return next((part for part in reversed(self.path) if isinstance(part, str)), "")

    def child(self, *keys: str) -> Node | None:
        """What stands below these keys; None if it is missing or null. Raises ImportFailed where no table is."""
        node = self
        for key in keys:
            node.entries()
            value = node.value.get(key)
            if value is None:
                return None
            node = Node(self.tree, (*node.path, key), value)
        return node

    def entries(self) -> list[Node]:
        """The children of a table, in the file's order, without those that are null. Raises ImportFailed."""
        if not isinstance(self.value, dict):
            raise self.wrong("keys with values below it")
        return [Node(self.tree, (*self.path, k), v) for k, v in self.value.items() if v is not None]

    def items(self) -> list[Node]:
        """The elements of a list, without those that are null. Raises ImportFailed."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Node(self.tree, (*self.path, n), v) for n, v in enumerate(self.value) if v is not None]

    def text(self) -> str:
        """Text; a number counts as its digits. Raises ImportFailed."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            raise self.wrong("text")
        return str(self.value)

    def wrong(self, wanted: str) -> ImportFailed:
        """The error for a value of another shape."""
        kinds = {dict: "keys", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
        got = kinds.get(type(self.value), "nothing" if self.value is None else "a date")
        return ImportFailed(f"{self.place}: {self.name} must be {wanted}, not {got}")


def printable(text: str) -> str:
    """Text that may stand in a line of a terminal or of a comment: what is not printable becomes a space."""
    return "".join(c if c.isprintable() else " " for c in text)


def read_toml(file: str, text: str) -> Tree:
    """Raises ImportFailed."""
    try:
        source = read(file, text)
    except tomllib.TOMLDecodeError as e:
        raise ImportFailed(f"{file}: not TOML: {e}") from None
    except RecursionError:
        raise ImportFailed(f"{file}: not TOML: values are nested too deeply") from None
    lines = {path: source.span(path, "key").line for path in source.statements}
    return Tree(file, source.data, lines)


def leaves(node: Node) -> Iterator[Node]:
    """Every value below a node that is neither a table nor a list."""
    if isinstance(node.value, dict):
        for entry in node.entries():
            yield from leaves(entry)
    elif isinstance(node.value, list):
        for item in node.items():
            yield from leaves(item)
    else:
        yield node
