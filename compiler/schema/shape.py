"""What a schema says about a key path: which keys there are, and what a value is. For messages and overrides."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel

from compiler.diagnostics import KeyPath

# Lists of tables, and the key that names an entry.
NAMED = {"hosts": "name", "neurons": "name", "devices": "name", "accounts": "name", "keys": "id", "models": "id"}


def keys_at(schema: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at ``path`` may have; none if it is no table, or takes any key."""
    found = _table_at(schema, path)
    return list(found.model_fields) if found else []


def is_list_of_tables(schema: type[BaseModel], path: KeyPath) -> bool:
    """Whether ``path`` is written with [[…]]."""
    annotation = _annotation(schema, path)
    return _model_in(annotation) is not None and list in _origins(annotation)


def is_text(schema: type[BaseModel], path: KeyPath) -> bool:
    """Whether the value at ``path`` is text (a choice of words too)."""
    annotation = _annotation(schema, path)
    return not (_origins(annotation) & {list, dict}) and _has_text(annotation)


def _annotation(schema: type[BaseModel], path: KeyPath) -> Any:
    table = _table_at(schema, path[:-1])
    name = path[-1] if path else None
    return (
        table.model_fields[name].annotation if table and isinstance(name, str) and name in table.model_fields else None
    )


def _table_at(schema: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    for part in path:
        if isinstance(part, int):
            continue
        inner = _model_in(schema.model_fields[part].annotation) if part in schema.model_fields else None
        if inner is None:
            return None
        schema = inner
    return schema


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _origins(annotation: Any) -> set[Any]:
    own = get_origin(annotation)
    return {own} | {origin for argument in get_args(annotation) for origin in _origins(argument)}


def _has_text(annotation: Any) -> bool:
    if annotation is str or isinstance(annotation, str):
        return True
    return any(_has_text(argument) for argument in get_args(annotation))
