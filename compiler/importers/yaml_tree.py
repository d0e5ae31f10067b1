"""YAML as a tree with lines. Only plain values are made, anchors are resolved within a bound, and nothing is run."""

from __future__ import annotations

from typing import Any

import yaml

from compiler.diagnostics import KeyPath
from compiler.importers.tree import ImportFailed, Tree

# Aliases can make a short file stand for billions of values.
MAX_VALUES = 200_000
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float"))
_MERGE = "tag:yaml.org,2002:merge"


def read_yaml(file: str, text: str) -> Tree:
    """Raises ImportFailed with file and line."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        raise ImportFailed(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {e.problem or e.context}") from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise ImportFailed(f"{file}:{line}: not YAML: a character that it does not allow") from None
    except (yaml.YAMLError, ValueError) as e:
        raise ImportFailed(f"{file}:1: not YAML: {' '.join(str(e).split())}") from None
    except RecursionError:
        raise ImportFailed(f"{file}:1: not YAML: values are nested too deeply") from None
    reader = _Reader(file)
    try:
        data = {} if root is None else reader.value(root, ())
    except RecursionError:
        raise ImportFailed(f"{file}:1: values are nested too deeply") from None
    return Tree(file, data, reader.lines)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self._scalars = yaml.SafeLoader("")
        self._open: set[int] = set()
        self._count = 0

    def _fail(self, node: yaml.Node, message: str) -> ImportFailed:
        return ImportFailed(f"{self.file}:{node.start_mark.line + 1}: {message}")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of a node, with the lines of everything in it. Raises ImportFailed."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._fail(node, f"more than {MAX_VALUES} values: anchors that repeat each other?")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._fail(node, "an anchor that contains itself; write its content out")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(child, (*path, n)) for n, child in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._fail(key, "a key must be text")
            if key.tag == _MERGE:
                for name, value in self._merged(child, path).items():
                    merged.setdefault(name, value)
                continue
            name = self._text(key)
            if name in found:
                raise self._fail(key, f"the key {name!r} stands here for the second time; remove one of them")
            self.lines[(*path, name)] = key.start_mark.line + 1
            found[name] = self.value(child, (*path, name))
        return merged | found

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """What ``<<:`` brings: a mapping, or a list of mappings of which the first ones win."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise self._fail(part, "<< merges mappings, and this is none")
            value = self.value(part, path)
            for name in value:
                found.setdefault(name, value[name])
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag not in _PLAIN:
            return self._text(node)
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, IndexError):
            raise self._fail(node, f"not a value of the kind {node.tag.rpartition(':')[2]}") from None

    def _text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
            raise self._fail(node, "text with half of a surrogate pair, which is no character")
        return text
