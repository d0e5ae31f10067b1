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
    """A machine. ``prefix``: where its programs are installed, if not where the fleet says."""

    name: str
    address: str
    ssh: str | None
    prefix: str | None = None


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
    """A served model. ``devices``: full names of those it may run on (None: any); ``path``: where it is declared.

    ``min_devices``: devices of one neuron that a replica is spread over. ``limits`` (``input``, ``output`` tokens),
    ``replicas`` (``min``, ``max``) and ``cost`` (per million tokens) hold only what was declared.
    ``measured``: kind of device -> bytes that a replica took on each of its devices; stands in for the estimate.
    """

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
    precision: str | None = None
    min_devices: int = 1
    on_pressure: str | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    measured: Mapping[str, int] = field(default_factory=dict)

    @property
    def weight_bytes(self) -> int:
        return self.manifest.weight_bytes

    @property
    def kv_bytes(self) -> int:
        """The whole cache: every sequence at its full context."""
        return self.manifest.kv_bytes_per_token * self.context * self.max_sequences

    @property
    def estimated_share(self) -> int:
        """By the manifest, on each of its devices: an equal part of weights and cache, rounded up, and an arena."""
        return -(-(self.weight_bytes + self.kv_bytes) // self.min_devices) + ARENA_BYTES

    def share_bytes(self, kind: str) -> int:
        """What one replica takes on each of its devices of this kind: as measured, else as estimated.

        Never less than its part of weights and cache: so much the neuron reserves whatever was measured.
        """
        return max(self.measured.get(kind, self.estimated_share), self.estimated_share - ARENA_BYTES)

    @property
    def need_bytes(self) -> int:
        """What one replica takes on all its devices, as estimated."""
        return self.min_devices * self.estimated_share


@dataclass(frozen=True, slots=True)
class Account:
    """Who usage is counted for. ``settings``: its limits."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: its hash, or (``secret_ref``) where the gateway finds it. ``settings``: its limits."""

    key_id: str
    account: str
    secret_hash: str | None = field(default=None, repr=False)
    secret_ref: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Which files for monitoring a generation holds."""

    prometheus: bool = True
    grafana: bool = True


@dataclass(frozen=True, slots=True)
class Systemd:
    """Where the programs are installed: ``prefix`` is absolute, ``user_prefix`` relative to the home directory."""

    prefix: str = "/opt/cortexd"
    user_prefix: str = ".local/share/cortexd"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that was declared and is usable, each tuple in declaration order.

    ``gateway`` and ``controller`` hold what ``control.toml`` says (no key without a value), ``eviction`` and
    ``retention`` the sections of those names.
    """

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
    accounts: tuple[Account, ...] = ()
    eviction: Mapping[str, Any] = field(default_factory=dict)
    retention: Mapping[str, Any] = field(default_factory=dict)
    monitoring: Monitoring = Monitoring()
    systemd: Systemd = Systemd()

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for neuron in self.neurons for device in neuron.devices)


@dataclass(frozen=True, slots=True)
class Placement:
    """A model may live on these devices of a neuron (``pinned``: it must). ``rank`` 0 is the first choice.

    ``share_bytes``: what it takes on each of them.
    """

    model: str
    neuron: str
    devices: tuple[str, ...]
    rank: int
    pinned: bool
    reason: str
    share_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PlacedFleet:
    """A fleet that fits: the proof is in each placement's ``reason``."""

    fleet: Fleet
    placements: tuple[Placement, ...]
