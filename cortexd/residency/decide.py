"""The policy, in one page: pinned models first, then who waits longest, then what has been idle for too long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cortexd.residency.actions import Action, Evict, Fulfil, Load, Refuse
from cortexd.residency.memory import find_room
from cortexd.residency.state import (
    HOLDS_MEMORY,
    Desired,
    Failure,
    NeuronState,
    Observed,
    OpenRequest,
    PlacementWish,
    WantedModel,
)

# A neuron that restarts is away for a few seconds: a cold load waits that long before it is refused.
AWAY_GRACE_S = 30.0
# Whoever waited for a model gets to use it before the next one may ask for its memory.
SETTLE_S = 3.0
BACKOFF_FIRST_S = 5.0
BACKOFF_MOST_S = 300.0


def retry_at(failure: Failure) -> float:
    """When a failed load may be tried again: 5 s after the first failure, doubled each time, at most 300 s."""
    return failure.at + min(BACKOFF_FIRST_S * 2.0 ** min(failure.count - 1, 10), BACKOFF_MOST_S)


def decide(
    desired: Desired, observed: Observed, load_requests: tuple[OpenRequest, ...], now: float
) -> tuple[Action, ...]:
    """What to do now. At most one load or one set of evictions per neuron; the rest follows when those are done.

    Without a generation nothing is done. Guarantees: a pinned or busy resident is never evicted, and a load is only
    returned where the model fits beside everything that holds memory.
    """
    if desired.generation is None:
        return ()
    planner = _Planner(desired, observed, now)
    for model in sorted(desired.models.values(), key=lambda m: (-m.priority, m.id)):
        for wish in model.placements:
            if wish.pinned:
                planner.keep_pinned(model, wish)
    for request in sorted(load_requests, key=lambda r: (r.requested_at, r.id)):
        planner.answer(request)
    waited_for = frozenset(request.model for request in load_requests)
    for neuron in observed.neurons.values():
        planner.tidy(neuron, waited_for)
    return tuple(planner.actions)


class _Planner:
    """Collects actions; a neuron that got one is busy for the rest of the round."""

    def __init__(self, desired: Desired, observed: Observed, now: float) -> None:
        self.actions: list[Action] = []
        self._desired = desired
        self._observed = observed
        self._now = now
        self._neurons = dict(observed.neurons)

    def keep_pinned(self, model: WantedModel, wish: PlacementWish) -> None:
        """Load a pinned model that is not resident, unless that failed a moment ago."""
        neuron = self._neurons.get(wish.neuron)
        if neuron is None or not neuron.healthy or neuron.busy or self._holds(neuron, model.id):
            return
        if self._in_backoff(model.id, neuron.name) is None:
            placed = self._place(model, wish, neuron, f"{model.id} is pinned on {neuron.name} and not resident", ())
            if not placed and find_room(self._desired, neuron, model, wish, self._protected(neuron.name)).waits:
                self._occupy(neuron)  # what becomes free there is the pinned model's, not the next request's

    def answer(self, request: OpenRequest) -> None:
        """Move a waiting request on: fulfil it, load, make room, let it wait, or refuse it."""
        model = self._desired.models.get(request.model)
        if model is None or not model.placements:
            why = "is not in the current generation" if model is None else "has no placement"
            self.actions.append(Refuse(request.id, request.model, f"{request.model} {why}"))
            return
        here = [(w, self._neurons[w.neuron]) for w in model.placements if self._is_up(w.neuron)]
        for _, neuron in here:
            resident = neuron.residents.get(model.id)
            if resident and resident.state == "loaded":
                reason = f"{model.id} is loaded on {neuron.name}"
                self.actions.append(Fulfil(request.id, model.id, neuron.name, reason))
                return
        if any(self._holds(neuron, model.id) for _, neuron in here):
            return  # on its way in or out; the next round sees the result
        self._load_somewhere(model, here, request)

    def tidy(self, neuron: NeuronState, waited_for: frozenset[str]) -> None:
        """Unload one idle model that nobody declared here, or that outlived its idle time."""
        current = self._neurons[neuron.name]
        if not current.healthy or current.busy:
            return
        for resident in sorted(current.residents.values(), key=lambda r: (r.last_used, r.model)):
            if not resident.idle or resident.model in waited_for or self._is_held(resident.model, neuron.name):
                continue
            model = self._desired.models.get(resident.model)
            wish = model.placement_on(neuron.name) if model else None
            unused_s = self._now - resident.last_used
            if model is None or wish is None:
                reason = f"{resident.model} is not placed on {neuron.name} in the current generation"
            elif not wish.pinned and model.idle_ttl_s is not None and unused_s >= model.idle_ttl_s:
                reason = f"{resident.model} was unused for {unused_s:.0f} s (idle_ttl_s = {model.idle_ttl_s:g})"
            else:
                continue
            inputs = {"unused_s": round(unused_s, 1)}
            self.actions.append(Evict(resident.model, neuron.name, reason, inputs=inputs))
            self._occupy(current)
            return

    def _load_somewhere(
        self, model: WantedModel, here: list[tuple[PlacementWish, NeuronState]], request: OpenRequest
    ) -> None:
        usable: list[tuple[bool, int, PlacementWish, NeuronState]] = []
        notes: list[str] = []
        waits = False
        for wish, neuron in here:
            failure = self._in_backoff(model.id, neuron.name)
            if failure is not None:
                notes.append(f"{neuron.name}: {failure.error}")
                continue
            room = find_room(self._desired, neuron, model, wish, self._protected(neuron.name))
            waits = waits or neuron.busy or room.waits
            if room.fits and not neuron.busy:
                usable.append((len(room.victims) > 0, len(usable), wish, neuron))
            elif not room.fits:
                notes.append(room.explanation)
        if usable:
            _, _, wish, neuron = min(usable, key=lambda u: u[:2])
            self._place(model, wish, neuron, f"a request waits for {model.id}", (request.id,))
        elif not waits:
            away = [w.neuron for w in model.placements if not self._is_up(w.neuron)]
            if away and self._now - request.requested_at < AWAY_GRACE_S:
                return
            notes += [f"{name} does not answer" for name in away]
            reason = f"{model.id} cannot be loaded: " + "; ".join(notes)
            self.actions.append(Refuse(request.id, model.id, reason, {"away": away, "notes": notes}))

    def _place(
        self, model: WantedModel, wish: PlacementWish, neuron: NeuronState, reason: str, requests: tuple[int, ...]
    ) -> bool:
        room = find_room(self._desired, neuron, model, wish, self._protected(neuron.name))
        if not room.fits:
            return False
        inputs: dict[str, Any] = {
            "need_bytes": model.need_bytes,
            "devices": list(wish.devices),
            "residents": {r.model: r.state for r in neuron.residents.values()},
        }
        for victim in room.victims:
            unused_s = round(self._now - neuron.residents[victim].last_used, 1)
            because = f"{victim} makes room for {model.id}: longest unused among those that may leave"
            more = {**inputs, "for": model.id, "unused_s": unused_s}
            self.actions.append(Evict(victim, neuron.name, because, requests, more))
        if not room.victims:
            self.actions.append(Load(model.id, neuron.name, reason, requests, inputs))
        self._occupy(neuron)
        return True

    def _is_up(self, name: str) -> bool:
        neuron = self._neurons.get(name)
        return neuron is not None and neuron.healthy

    def _holds(self, neuron: NeuronState, model: str) -> bool:
        resident = neuron.residents.get(model)
        return resident is not None and resident.state in HOLDS_MEMORY

    def _in_backoff(self, model: str, neuron: str) -> Failure | None:
        failure = self._observed.failures.get((model, neuron))
        return failure if failure and self._now < retry_at(failure) else None

    def _is_held(self, model: str, neuron: str) -> bool:
        return self._now < self._observed.held.get((model, neuron), 0.0)

    def _protected(self, neuron: str) -> frozenset[str]:
        """Residents that may not be asked to leave at this moment, although they look idle."""
        residents = self._neurons[neuron].residents.values()
        return frozenset(
            r.model for r in residents if self._is_held(r.model, neuron) or self._now - r.last_used < SETTLE_S
        )

    def _occupy(self, neuron: NeuronState) -> None:
        self._neurons[neuron.name] = replace(neuron, busy=True)
