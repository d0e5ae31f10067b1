"""What residency answers: values that say what to do and why. ``inputs`` is what the decision was taken from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model on a neuron; ``requests`` are the ids of those who wait for it (none for a pinned model)."""

    model: str
    neuron: str
    reason: str
    requests: tuple[int, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload an idle, unpinned model from a neuron."""

    model: str
    neuron: str
    reason: str
    requests: tuple[int, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Defrag:
    """Unload all that may leave an idle neuron at once, so that its memory starts anew; possibly nothing is left."""

    neuron: str
    models: tuple[str, ...]
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request ends with this reason. ``later``: there is no room now, so asking again later may help."""

    request: int
    model: str
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    later: bool = False


@dataclass(frozen=True, slots=True)
class Fulfil:
    """The model is loaded on this neuron: the request ends well."""

    request: int
    model: str
    neuron: str
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


Action = Load | Evict | Defrag | Refuse | Fulfil
