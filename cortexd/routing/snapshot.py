"""The gateway's picture of the fleet: immutable, built by ``store.snapshot``, replaced whole when the state moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class NeuronView:
    """A neuron: base URL without trailing slash, whether the controller sees it healthy, and where its token lies."""

    name: str
    endpoint: str
    healthy: bool
    token_ref: str | None = None


@dataclass(frozen=True, slots=True)
class ModelView:
    """A served model and the neurons that may hold it, first choice first.

    ``output_limit``: tokens that one answer may have at most, None without a limit of its own. ``fallback``: ids of
    models that answer when this one cannot be served, first choice first.
    """

    id: str
    task: str
    context: int
    placements: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    output_limit: int | None = None
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResidentView:
    """A model on a neuron, with the load that was last observed there."""

    neuron: str
    model: str
    state: str
    in_flight: int
    queue_depth: int


@dataclass(frozen=True, slots=True)
class KeyView:
    """Who a key belongs to, and the ids of the models that it may use (None: all)."""

    key_id: str
    account: str
    models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key whose secret the gateway finds by ``ref``: ``env:NAME``, ``file:/PATH`` or ``credential:NAME``."""

    ref: str
    key: KeyView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that routing needs. ``keys`` maps a secret's hash to its owner; ``aliases`` a name to a model id.

    ``key_refs`` are keys that become part of ``keys`` where the gateway finds their secret. ``generation`` is None
    while nothing was applied. ``applied_at`` is when it was, in Unix seconds.
    """

    generation: str | None
    version: int
    neurons: Mapping[str, NeuronView]
    models: Mapping[str, ModelView]
    aliases: Mapping[str, str]
    residents: Mapping[str, tuple[ResidentView, ...]]
    keys: Mapping[str, KeyView]
    settings: Mapping[str, Any] = field(default_factory=dict)
    applied_at: float = 0.0
    key_refs: tuple[KeyRef, ...] = ()

    def resolve(self, name: str) -> ModelView | None:
        """The model that a client means by ``name`` (an id or an alias), or None."""
        return self.models.get(self.aliases.get(name, name))


EMPTY = Snapshot(None, 0, {}, {}, {}, {}, {})
