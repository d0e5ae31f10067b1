"""What the phases hand on: immutable, resolved (no name without its thing), in bytes, tokens and seconds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compiler.diagnostics import KeyPath
from cortexd.protocol.manifest import Manifest

# Kept free for each resident model: what ONNX Runtime's arena takes for the activations of a step.
ARENA_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ArtifactProblem:
    """Something wrong with the files of an artifact; which model wants it is not known here."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A source that was looked at. ``location``: ``builtin:NAME`` or an absolute path; no ``manifest`` if unusable."""

    location: str
    manifest: Manifest | None = None
    manifest_sha256: str = ""
    problems: tuple[ArtifactProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A machine."""

    name: str
    address: str
    ssh: str | None


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU or CPU of a neuron."""

    neuron: str
    name: str
    kind: Literal["cpu", "cuda"]
    index: int
    threads: int | None
    memory_bytes: int

    @property
    def full_name(self) -> str:
        """``NEURON/DEVICE``, unique in the fleet."""
        return f"{self.neuron}/{self.name}"


@dataclass(frozen=True, slots=True)
class Neuron:
    """A daemon. ``listen`` (HOST:PORT) is what ``endpoint`` says."""

    name: str
    host: str
    endpoint: str
    token_file: str | None
    devices: tuple[Device, ...]

    @property
    def listen(self) -> str:
        return self.endpoint.removeprefix("http://")


@dataclass(frozen=True, slots=True)
class Model:
    """A served model. ``devices``: full names of those it may run on (None: any); ``path``: where it is declared."""

    id: str
    source: str
    task: Literal["chat", "embed"]
    artifact: str
    manifest: Manifest
    manifest_sha256: str
    context: int
    max_sequences: int
    pinned: bool
    pinned_on: tuple[str, ...]
    residency_priority: int
    min_device_bytes: int
    devices: frozenset[str] | None
    sampling: Mapping[str, float | int]
    idle_ttl_s: float | None
    path: KeyPath

    @property
    def weight_bytes(self) -> int:
        return self.manifest.weight_bytes

    @property
    def kv_bytes(self) -> int:
        """The whole cache: every sequence at its full context."""
        return self.manifest.kv_bytes_per_token * self.context * self.max_sequences

    @property
    def need_bytes(self) -> int:
        """What one replica takes on its device."""
        return self.weight_bytes + self.kv_bytes + ARENA_BYTES


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, by its hash."""

    key_id: str
    account: str
    secret_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that was declared and is usable, each tuple in declaration order."""

    name: str
    gateway_host: str
    gateway: Mapping[str, Any]
    controller: Mapping[str, Any]
    database_url: str
    hosts: tuple[Host, ...]
    neurons: tuple[Neuron, ...]
    models: tuple[Model, ...]
    aliases: tuple[tuple[str, str], ...]
    keys: tuple[Key, ...]

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for neuron in self.neurons for device in neuron.devices)


@dataclass(frozen=True, slots=True)
class Placement:
    """A model may live on these devices of a neuron (``pinned``: it must). ``rank`` 0 is the first choice."""

    model: str
    neuron: str
    devices: tuple[str, ...]
    rank: int
    pinned: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PlacedFleet:
    """A fleet that fits: the proof is in each placement's ``reason``."""

    fleet: Fleet
    placements: tuple[Placement, ...]
