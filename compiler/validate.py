"""Phase 2: each file by itself against its schema. What is broken is reported and left out, the rest goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from compiler import codes
from compiler.diagnostics import Diagnostic, KeyPath, did_you_mean
from compiler.schema import fleet as f
from compiler.schema import models as m
from compiler.schema import types
from compiler.source import Source

T = TypeVar("T", bound=BaseModel)
S = TypeVar("S", bound=BaseModel)

_CUSTOM = {
    types.NOT_YET: codes.NOT_YET,
    types.CONTRADICTION: codes.CONTRADICTION,
    types.SECRET: codes.SECRET_IN_FILE,
    types.VALUE: codes.WRONG_VALUE,
    types.MISSING: codes.MISSING_KEY,
}
_WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_GOT = {str: "text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "a table"}
_NAMED = {"hosts": "name", "neurons": "name", "accounts": "name", "keys": "id", "models": "id"}
_PATTERNS = {
    "address": "must be an IP address or a host name",
    "ssh": "must be HOST or USER@HOST",
    "secret_sha256": "must be 64 lower-case hex digits: the SHA-256 of the key, never the key itself",
    "devices": "must be DEVICE or NEURON/DEVICE",
    "id": "must start with a letter or digit, then letters, digits and . _ : / @ + -",
}


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """A valid entry, and where it stands."""

    path: KeyPath
    value: T


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is valid in both files. ``names`` has those of broken entries too: a reference to one is no second mistake.

    ``fleet_complete``: no host, neuron or device was left out. ``readable`` holds the names of the files that are TOML.
    """

    fleet_name: str
    gateway: f.GatewaySection
    database: f.DatabaseSection
    controller: f.ControllerSection
    hosts: tuple[Item[f.HostSection], ...] = ()
    neurons: tuple[Item[f.NeuronSection], ...] = ()
    accounts: tuple[Item[f.AccountSection], ...] = ()
    keys: tuple[Item[f.KeySection], ...] = ()
    models: tuple[Item[m.ModelSection], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fleet_complete: bool = False
    readable: frozenset[str] = frozenset()


def validate(fleet: Source, models: Source) -> tuple[Declaration, list[Diagnostic]]:
    """Everything valid in the two files, and all that is not."""
    fleet_bad, fleet_found = _check(fleet, f.FleetFile)
    models_bad, models_found = _check(models, m.ModelsFile)
    raw, raw_models = fleet.data or {}, models.data or {}
    fleet_section = _section(raw, fleet_bad, "fleet", f.FleetSection, f.FleetSection(name="unnamed"))
    aliases = raw_models.get("aliases")
    declaration = Declaration(
        fleet_name=fleet_section.name,
        gateway=_section(raw, fleet_bad, "gateway", f.GatewaySection, f.GatewaySection()),
        database=_section(raw, fleet_bad, "database", f.DatabaseSection, f.DatabaseSection()),
        controller=_section(raw, fleet_bad, "controller", f.ControllerSection, f.ControllerSection()),
        hosts=_items(raw, fleet_bad, "hosts", f.HostSection),
        neurons=_items(raw, fleet_bad, "neurons", f.NeuronSection),
        accounts=_items(raw, fleet_bad, "accounts", f.AccountSection),
        keys=_items(raw, fleet_bad, "keys", f.KeySection),
        models=_items(raw_models, models_bad, "models", m.ModelSection),
        aliases={
            name: target
            for name, target in (aliases.items() if isinstance(aliases, dict) else ())
            if not any(path[:2] == ("aliases", name) for path in models_bad)
        },
        names={kind: _names(raw_models if kind == "models" else raw, kind) for kind in _NAMED},
        fleet_complete=fleet.data is not None and not any(path[:1] in (("hosts",), ("neurons",)) for path in fleet_bad),
        readable=frozenset(source.name for source in (fleet, models) if source.data is not None),
    )
    return declaration, fleet_found + models_found


def _check(source: Source, schema: type[BaseModel]) -> tuple[list[KeyPath], list[Diagnostic]]:
    if source.data is None:
        return [], []
    try:
        schema.model_validate(source.data)
    except ValidationError as e:
        errors = e.errors(include_url=False, include_context=True)
        paths = [_path(error["loc"]) for error in errors]
        found = [_diagnostic(source, schema, error, path) for error, path in zip(errors, paths, strict=True)]
        return paths, list(dict.fromkeys(found))
    return [], []


def _path(loc: Iterable[str | int]) -> KeyPath:
    """pydantic adds ``[key]`` behind the key of a mapping that it refuses; that is no part of the path."""
    return tuple(part for part in loc if part != "[key]")


def _diagnostic(source: Source, schema: type[BaseModel], error: ErrorDetails, path: KeyPath) -> Diagnostic:
    kind = error["type"]
    key = next((str(part) for part in reversed(path) if isinstance(part, str)), source.name)
    value = error["input"]
    hint: str | None = None
    if kind == "extra_forbidden":
        known = _fields(schema, path[:-1])
        table = ".".join(p for p in path[:-1] if isinstance(p, str))
        listed = len(path) > 1 and isinstance(path[-2], int)
        where = f"[[{table}]]" if listed else f"[{table}]" if table else "this file"
        message = f"unknown key `{key}` in {where}"
        return Diagnostic(codes.UNKNOWN_KEY, "error", message, source.span(path, "key"), path, did_you_mean(key, known))
    if kind == "missing":
        if len(path) == 1:
            hint = f"add [[{key}]]" if key in _NAMED else f"add [{key}]"
        else:
            hint = "add [[neurons.devices]]" if key == "devices" else f"add {key} = …"
        parent = source.span(path[:-1], "key")
        return Diagnostic(codes.MISSING_KEY, "error", f"`{key}` is missing", parent, path, hint)
    if kind in _CUSTOM:
        # about one value, or (from a validator of the whole entry) about the entry
        text = error["msg"] if not isinstance(path[-1], str) or isinstance(value, dict) else f"`{key}` {error['msg']}"
        return Diagnostic(_CUSTOM[kind], "error", text, source.span(path), path)
    if kind in _WANTED:
        got = "one with a fraction" if kind == "int_from_float" else _GOT.get(type(value), "a date or time")
        if kind == "list_type" and isinstance(value, dict) and key in (*_NAMED, "devices"):
            hint = f"write [[{'neurons.' if key == 'devices' else ''}{key}]] for each"
        message = f"`{key}` must be {_WANTED[kind]}, not {got}"
        return Diagnostic(codes.WRONG_TYPE, "error", message, source.span(path), path, hint)
    return Diagnostic(codes.WRONG_VALUE, "error", f"`{key}` {_value_message(error, key)}", source.span(path), path)


def _value_message(error: ErrorDetails, key: str) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "string_pattern_mismatch":
            return _PATTERNS.get(
                key, "must start with a lower-case letter or digit, then lower-case letters, digits and . _ -"
            )
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
    return error["msg"][0].lower() + error["msg"][1:]


def _fields(schema: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the table at ``path`` may have."""
    for part in path:
        if isinstance(part, int):
            continue
        inner = _model_in(schema.model_fields[part].annotation) if part in schema.model_fields else None
        if inner is None:
            return []
        schema = inner
    return list(schema.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _section(raw: Mapping[str, Any], bad: list[KeyPath], name: str, schema: type[S], default: S) -> S:
    """The section without its broken keys, which fall back to their defaults (the errors are on record already)."""
    table = raw.get(name, {})
    if not isinstance(table, dict):
        return default
    broken = {path[1] for path in bad if len(path) > 1 and path[0] == name}
    try:
        return schema.model_validate({key: value for key, value in table.items() if key not in broken})
    except ValidationError:
        return default


def _items(raw: Mapping[str, Any], bad: list[KeyPath], kind: str, schema: type[T]) -> tuple[Item[T], ...]:
    entries = raw.get(kind, [])
    if not isinstance(entries, list):
        return ()
    broken = {path[1] for path in bad if len(path) > 1 and path[0] == kind}
    return tuple(Item((kind, n), schema.model_validate(e)) for n, e in enumerate(entries) if n not in broken)


def _names(raw: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    entries = raw.get(kind, [])
    values = [e.get(_NAMED[kind]) for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return tuple(v for v in values if isinstance(v, str))
