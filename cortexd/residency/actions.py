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
class Refuse:
    """Waiting does not help: the request ends with this reason."""

    request: int
    model: str
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fulfil:
    """The model is loaded on this neuron: the request ends well."""

    request: int
    model: str
    neuron: str
    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


Action = Load | Evict | Refuse | Fulfil
