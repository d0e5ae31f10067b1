"""Both drafts against the compiler's own phases: each line that they refuse becomes a comment that says why.

So an importer cannot write what the schema does not have, whatever stood in the original.
"""

from __future__ import annotations

from compiler import codes
from compiler.diagnostics import Diagnostic
from compiler.importers.draft import Draft, Line, Note, Table, value_text
from compiler.importers.secrets import shown
from compiler.ir import Artifact
from compiler.parse import parse
from compiler.resolve import resolve
from compiler.validate import validate

FLEET, MODELS = "fleet.toml", "models.toml"
# What only a person can fill in: the key, or the list, that is missing.
_FOR_PEOPLE = frozenset({"source", "devices", "models", "neurons", "hosts"})


def settle(draft: Draft) -> tuple[str, str]:
    """The texts of fleet.toml and models.toml. Notes on what became a comment are added to the draft's."""
    while True:
        texts = draft.fleet.render(), draft.models.render()
        refused = _refused(*texts)
        # found first, changed then: a table that becomes a comment moves those behind it
        places = [(*(draft.fleet if d.span.file == FLEET else draft.models).at(d.path), d.message) for d in refused]
        done: set[int] = set()
        for table, lines, message in places:
            targets: list[Line | None] = [*lines] or [None]
            for line in targets:
                target = line or table
                if table is not None and target is not None and id(target) not in done:
                    done.add(id(target))
                    _comment_out(draft, table, line, message)
        if not done:
            return texts


def _refused(fleet_text: str, models_text: str) -> list[Diagnostic]:
    fleet, found = parse(FLEET, fleet_text)
    models, more = parse(MODELS, models_text)
    found += more
    declared, more = validate(fleet, models)
    found += more
    # what the artifacts are is not known here, and not asked
    artifacts = {item.value.wanted: Artifact(item.value.source) for item in declared.models}
    found += resolve(declared, artifacts, fleet, models)[1]
    return [d for d in found if d.severity == "error" and not _for_people(d)]


def _for_people(d: Diagnostic) -> bool:
    return d.code == codes.MISSING_KEY and bool(d.path) and d.path[-1] in _FOR_PEOPLE


def _comment_out(draft: Draft, table: Table, line: Line | None, message: str) -> None:
    if line is None:
        table.dead = f"left out: {message}"
        draft.notes.append(_note(table, None, None, message))
        return
    value = shown(line.value, line.key[-1])
    position = next(n for n, part in enumerate(table.parts) if part is line)
    table.parts[position] = f"left out: {'.'.join(line.key)} = {value_text(value)}{_from(line)}: {message}"
    draft.notes.append(_note(table, line, value, message))


def _from(line: Line) -> str:
    return f" ({line.origin.place})" if line.origin else ""


def _note(table: Table, line: Line | None, value: object, message: str) -> Note:
    origin = line.origin if line else next((p.origin for p in table.parts if isinstance(p, Line) and p.origin), None)
    file = origin.tree.file if origin else ""
    number = origin.tree.line(origin.path) if origin else 0
    name = f"{table.name}.{'.'.join(line.key)}" if line else f"{table.name} {_name(table)}"
    return Note("left out", file, number, name.strip(), value, message)


def _name(table: Table) -> str:
    return str(table.get("id") or table.get("name") or "")
