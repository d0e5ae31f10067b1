"""What one round of decisions has done so far, and the questions that its rules ask. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from cortexd.residency.actions import Action, Evict, Load
from cortexd.residency.memory import Room, find_room
from cortexd.residency.state import (
    HOLDS_MEMORY,
    Desired,
    Failure,
    NeuronState,
    Observed,
    PlacementWish,
    ResidentState,
    WantedModel,
)

# Whoever waited for a model gets to use it before the next one may ask for its memory.
SETTLE_S = 3.0
BACKOFF_FIRST_S = 5.0
BACKOFF_MOST_S = 300.0


def retry_at(failure: Failure) -> float:
    """When a failed load may be tried again: 5 s after the first failure, doubled each time, at most 300 s."""
    return failure.at + min(BACKOFF_FIRST_S * 2.0 ** min(failure.count - 1, 10), BACKOFF_MOST_S)


class Round:
    """Collects actions; a neuron that got one is busy for the rest of the round."""

    def __init__(self, desired: Desired, observed: Observed, now: float) -> None:
        self.actions: list[Action] = []
        self.desired = desired
        self.observed = observed
        self.now = now
        self.neurons = dict(observed.neurons)
        self.planned: Counter[str] = Counter()  # model -> loads of this round, also those that make room first
        self._leaving: Counter[str] = Counter()  # model -> evictions of this round

    def up(self, name: str) -> NeuronState | None:
        """The neuron, if it answers."""
        neuron = self.neurons.get(name)
        return neuron if neuron is not None and neuron.healthy else None

    def placements(self, model: WantedModel) -> list[tuple[PlacementWish, NeuronState]]:
        """Where a model may live at this moment: placements on neurons that answer, first choice first."""
        return [(wish, neuron) for wish in model.placements if (neuron := self.up(wish.neuron)) is not None]

    def holds(self, neuron: NeuronState, model: str) -> bool:
        """Whether the model has memory there, whatever its state."""
        resident = neuron.residents.get(model)
        return resident is not None and resident.state in HOLDS_MEMORY

    def loaded(self, model: WantedModel) -> list[ResidentState]:
        """Its replicas that serve."""
        found = [neuron.residents.get(model.id) for _, neuron in self.placements(model)]
        return [resident for resident in found if resident is not None and resident.state == "loaded"]

    def replicas(self, model: WantedModel) -> int:
        """How many there are, on the way in or out included, and those that this round plans."""
        held = sum(self.holds(neuron, model.id) for _, neuron in self.placements(model))
        return held + self.planned[model.id]

    def leaving(self, model: WantedModel) -> int:
        """How many this round evicts."""
        return self._leaving[model.id]

    def may_add(self, model: WantedModel) -> bool:
        """Whether one more replica stays within ``max_replicas``."""
        return model.most_replicas is None or self.replicas(model) < model.most_replicas

    def is_kept(self, model: WantedModel) -> bool:
        """Whether one replica less would be less than ``min_replicas``."""
        return model.min_replicas > 0 and len(self.loaded(model)) - self.leaving(model) <= model.min_replicas

    def in_backoff(self, model: str, neuron: str) -> Failure | None:
        """The failure that forbids a load for now."""
        failure = self.observed.failures.get((model, neuron))
        return failure if failure and self.now < retry_at(failure) else None

    def is_held(self, model: str, neuron: str) -> bool:
        """Whether it was found busy a moment ago."""
        return self.now < self.observed.held.get((model, neuron), 0.0)

    def protected(self, neuron: NeuronState) -> frozenset[str]:
        """Residents that may not be asked to leave at this moment, although they look idle."""
        return frozenset(
            r.model
            for r in neuron.residents.values()
            if self.is_held(r.model, neuron.name) or self.now - r.last_used < SETTLE_S
        )

    def room(self, model: WantedModel, wish: PlacementWish, neuron: NeuronState, *, may_evict: bool) -> Room:
        """Whether it finds room there; see ``memory.find_room``."""
        models = self.desired.models
        kept = frozenset(r for r in neuron.residents if r in models and self.is_kept(models[r]))
        protected = self.protected(neuron)
        return find_room(self.desired, neuron, model, wish, may_evict=may_evict, protected=protected, kept=kept)

    def place(
        self,
        model: WantedModel,
        wish: PlacementWish,
        neuron: NeuronState,
        room: Room,
        reason: str,
        requests: tuple[int, ...] = (),
    ) -> None:
        """Load it in a room that fits, or evict who stands in the way."""
        inputs: dict[str, Any] = {
            "need_bytes": model.need_bytes,
            "devices": list(wish.devices),
            "residents": {r.model: r.state for r in neuron.residents.values()},
        }
        first = "lowest in priority" if self.desired.eviction.strategy == "priority" else "longest unused"
        for victim in room.victims:
            unused_s = round(self.now - neuron.residents[victim].last_used, 1)
            because = f"{victim} makes room for {model.id}: {first} among those that may leave"
            more = {**inputs, "for": model.id, "unused_s": unused_s, "strategy": self.desired.eviction.strategy}
            self.evict(Evict(victim, neuron.name, because, requests, more))
        if not room.victims:
            self.actions.append(Load(model.id, neuron.name, reason, requests, inputs))
        self.planned[model.id] += 1
        self.occupy(neuron)

    def evict(self, eviction: Evict) -> None:
        """Unload one."""
        self.actions.append(eviction)
        self._leaving[eviction.model] += 1

    def occupy(self, neuron: NeuronState) -> None:
        """Nothing more there in this round."""
        self.neurons[neuron.name] = replace(neuron, busy=True)
