"""Phase 2: each file by itself against its schema. What is broken is reported and left out, the rest goes on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from compiler.diagnostics import Diagnostic, KeyPath
from compiler.messages import diagnostic, path_of
from compiler.schema import access as a
from compiler.schema import fleet as f
from compiler.schema import models as m
from compiler.schema.shape import NAMED
from compiler.source import Source
from compiler.unenforced import warnings

T = TypeVar("T", bound=BaseModel)
S = TypeVar("S", bound=BaseModel)

_NAMED = {kind: key for kind, key in NAMED.items() if kind != "devices"}


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
    eviction: f.EvictionSection
    retention: f.RetentionSection
    monitoring: f.MonitoringSection
    systemd: f.SystemdSection
    hosts: tuple[Item[f.HostSection], ...] = ()
    neurons: tuple[Item[f.NeuronSection], ...] = ()
    accounts: tuple[Item[a.AccountSection], ...] = ()
    keys: tuple[Item[a.KeySection], ...] = ()
    models: tuple[Item[m.ModelSection], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fleet_complete: bool = False
    readable: frozenset[str] = frozenset()


def validate(fleet: Source, models: Source) -> tuple[Declaration, list[Diagnostic]]:
    """Everything valid in the two files, and all that is not."""
    fleet_bad, fleet_found = check(fleet, f.FleetFile)
    models_bad, models_found = check(models, m.ModelsFile)
    raw, raw_models = fleet.data or {}, models.data or {}
    fleet_section = _section(raw, fleet_bad, "fleet", f.FleetSection, f.FleetSection(name="unnamed"))
    aliases = raw_models.get("aliases")
    bad_aliases = {path[1] for path in models_bad if len(path) > 1 and path[0] == "aliases"}
    declaration = Declaration(
        fleet_name=fleet_section.name,
        gateway=_section(raw, fleet_bad, "gateway", f.GatewaySection, f.GatewaySection()),
        database=_section(raw, fleet_bad, "database", f.DatabaseSection, f.DatabaseSection()),
        controller=_section(raw, fleet_bad, "controller", f.ControllerSection, f.ControllerSection()),
        eviction=_section(raw, fleet_bad, "eviction", f.EvictionSection, f.EvictionSection()),
        retention=_section(raw, fleet_bad, "retention", f.RetentionSection, f.RetentionSection()),
        monitoring=_section(raw, fleet_bad, "monitoring", f.MonitoringSection, f.MonitoringSection()),
        systemd=_section(raw, fleet_bad, "systemd", f.SystemdSection, f.SystemdSection()),
        hosts=_items(raw, fleet_bad, "hosts", f.HostSection),
        neurons=_items(raw, fleet_bad, "neurons", f.NeuronSection),
        accounts=_items(raw, fleet_bad, "accounts", a.AccountSection),
        keys=_items(raw, fleet_bad, "keys", a.KeySection),
        models=_items(raw_models, models_bad, "models", m.ModelSection),
        aliases={
            name: target
            for name, target in (aliases.items() if isinstance(aliases, dict) else ())
            if name not in bad_aliases
        },
        names={kind: _names(raw_models if kind == "models" else raw, kind) for kind in _NAMED}
        | {"aliases": tuple(aliases) if isinstance(aliases, dict) else ()},
        fleet_complete=fleet.data is not None and not any(path[:1] in (("hosts",), ("neurons",)) for path in fleet_bad),
        readable=frozenset(source.name for source in (fleet, models) if source.data is not None),
    )
    found = fleet_found + models_found
    found += warnings("accounts", [(i.path, i.value) for i in declaration.accounts], fleet)
    found += warnings("keys", [(i.path, i.value) for i in declaration.keys], fleet)
    found += warnings("models", [(i.path, i.value) for i in declaration.models], models)
    return declaration, found


def check(source: Source, schema: type[BaseModel]) -> tuple[list[KeyPath], list[Diagnostic]]:
    """A file against its schema: the key paths that are wrong, and why."""
    if source.data is None:
        return [], []
    try:
        schema.model_validate(source.data)
    except ValidationError as e:
        errors = e.errors(include_url=False, include_context=True)
        paths = [path_of(error["loc"]) for error in errors]
        found = [diagnostic(source, schema, error, path) for error, path in zip(errors, paths, strict=True)]
        return paths, list(dict.fromkeys(found))
    return [], []


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
