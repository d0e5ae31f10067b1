"""One call for all kinds: named texts in, both files and the notes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compiler.importers import helexa, litellm, llama_swap
from compiler.importers.draft import Draft, Note
from compiler.importers.settle import settle
from compiler.importers.tree import Tree, read_toml
from compiler.importers.yaml_tree import read_yaml


@dataclass(frozen=True, slots=True)
class Imported:
    """The texts of fleet.toml and models.toml; the notes by file and line."""

    fleet: str
    models: str
    notes: tuple[Note, ...]


KINDS: Mapping[str, tuple[Callable[[str, str], Tree], Callable[[list[Tree]], Draft]]] = {
    "helexa": (read_toml, helexa.draw),
    "litellm": (read_yaml, litellm.draw),
    "llama-swap": (read_yaml, llama_swap.draw),
}


def run(kind: str, files: Sequence[tuple[str, str]]) -> Imported:
    """``files``: name and text of each. Raises ImportFailed with file and line for what is not of that kind."""
    read, draw = KINDS[kind]
    draft = draw([read(name, text) for name, text in files])
    fleet, models = settle(draft)
    once = {repr(note): note for note in draft.notes}.values()  # by text: values may be lists, which no set takes
    notes = sorted(once, key=lambda n: (n.file, n.line, n.kind, n.key, n.reason))
    return Imported(fleet, models, tuple(notes))
