"""What residency decides from. All immutable; bytes, Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# A resident in one of these states holds its memory.
HOLDS_MEMORY = frozenset({"loading", "loaded", "draining", "unloading"})


@dataclass(frozen=True, slots=True)
class PlacementWish:
    """A model may live on these devices of this neuron; ``pinned``: it must, always.

    ``share_bytes``: what it takes on each of them, where that was measured; unless set, an equal part of its need.
    """

    neuron: str
    devices: tuple[str, ...]
    pinned: bool = False
    share_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A declared model. ``placements`` are in order of preference; ``need_bytes`` is one replica on all its devices.

    ``on_pressure`` says what a load on demand does where no room is: ``evict`` others, ``queue`` until there is some,
    or ``refuse``. ``min_replicas`` are kept loaded; ``max_replicas`` None: one on demand, beside what is pinned.
    ``max_sequences``: requests that one replica works on at once.
    """

    id: str
    need_bytes: int
    placements: tuple[PlacementWish, ...]
    priority: int = 100
    idle_ttl_s: float | None = None
    on_pressure: str = "evict"
    min_replicas: int = 0
    max_replicas: int | None = None
    max_sequences: int = 1

    def placement_on(self, neuron: str) -> PlacementWish | None:
        """The wish that concerns a neuron, if there is one."""
        return next((p for p in self.placements if p.neuron == neuron), None)

    @property
    def most_replicas(self) -> int | None:
        """How many may be loaded at once, None without a bound. What must be loaded may always be."""
        if self.max_replicas is None:
            return None
        return max(self.max_replicas, self.min_replicas, sum(p.pinned for p in self.placements))


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """Who goes first: ``lru``, the longest unused; ``priority``, the lower priority and then the longest unused.

    After ``defrag_after_cycles`` evictions a neuron's memory is cleared when it is idle; 0: never.
    """

    strategy: str = "lru"
    defrag_after_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Desired:
    """The current generation. ``device_bytes`` maps (neuron, device) to the memory that was declared.

    ``wait_s``: how long clients wait for a cold load, so how long one may stay queued.
    """

    generation: str | None
    models: Mapping[str, WantedModel]
    device_bytes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    eviction: EvictionPolicy = field(default_factory=EvictionPolicy)
    wait_s: float = 600.0


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as its neuron measured it. A ``cpu`` device's use is the declared budget's, so only sums count there."""

    kind: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class ResidentState:
    """A model on a neuron. ``last_used`` is when it last answered, or when it was loaded."""

    model: str
    state: str
    in_flight: int
    queue_depth: int
    last_used: float

    @property
    def idle(self) -> bool:
        """Loaded, and nobody waits for it."""
        return self.state == "loaded" and self.in_flight == 0 and self.queue_depth == 0


@dataclass(frozen=True, slots=True)
class NeuronState:
    """A neuron. ``busy``: a load or unload runs, or it is still loading what its own configuration pins."""

    name: str
    healthy: bool
    busy: bool
    devices: Mapping[str, DeviceState]
    residents: Mapping[str, ResidentState]


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed loads of one model on one neuron in a row: how many, when the last one ended, and what it said."""

    count: int
    at: float
    error: str


@dataclass(frozen=True, slots=True)
class Observed:
    """The fleet as it is. Keys of ``failures`` and ``held`` are (model, neuron).

    ``held`` maps residents to the time before which their eviction is not tried again: they were found busy.
    ``evictions`` counts, by neuron, those since its memory was last cleared.
    """

    neurons: Mapping[str, NeuronState]
    failures: Mapping[tuple[str, str], Failure] = field(default_factory=dict)
    held: Mapping[tuple[str, str], float] = field(default_factory=dict)
    evictions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A cold load that somebody waits for (a row of ``load_request``)."""

    id: int
    model: str
    state: str
    requested_at: float
