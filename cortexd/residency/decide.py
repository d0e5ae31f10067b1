"""The policy, in one page: pinned models, kept replicas, who waits longest, more replicas, then who may go."""

from __future__ import annotations

from cortexd.residency.actions import Action, Fulfil, Refuse
from cortexd.residency.memory import Room
from cortexd.residency.round import Round, retry_at
from cortexd.residency.state import Desired, NeuronState, Observed, OpenRequest, PlacementWish, WantedModel
from cortexd.residency.tidy import defrag, tidy

# A neuron that restarts is away for a few seconds: a cold load waits that long before it is refused.
AWAY_GRACE_S = 30.0

__all__ = ["AWAY_GRACE_S", "decide", "retry_at"]


def decide(
    desired: Desired, observed: Observed, load_requests: tuple[OpenRequest, ...], now: float
) -> tuple[Action, ...]:
    """What to do now. At most one load or one set of evictions per neuron; the rest follows when those are done.

    Without a generation nothing is done. Guarantees: a pinned or busy resident is never evicted; a load is only
    returned where the model fits beside everything that holds memory, and never beyond its ``max_replicas``.
    """
    if desired.generation is None:
        return ()
    plan = Round(desired, observed, now)
    models = sorted(desired.models.values(), key=lambda m: (-m.priority, m.id))
    for model in models:
        for wish in model.placements:
            if wish.pinned:
                keep_pinned(plan, model, wish)
    for model in models:
        keep_replicas(plan, model)
    for request in sorted(load_requests, key=lambda r: (r.requested_at, r.id)):
        answer(plan, request)
    for model in models:
        add_replica(plan, model)
    waited_for = frozenset(request.model for request in load_requests)
    for name in observed.neurons:
        defrag(plan, name, load_requests)
        tidy(plan, name, waited_for)
    return tuple(plan.actions)


def keep_pinned(plan: Round, model: WantedModel, wish: PlacementWish) -> None:
    """Load a pinned model that is not resident, unless that failed a moment ago. Whoever is not pinned gives way."""
    neuron = plan.up(wish.neuron)
    if neuron is None or neuron.busy or plan.holds(neuron, model.id) or plan.in_backoff(model.id, neuron.name):
        return
    room = plan.room(model, wish, neuron, may_evict=True)
    if room.fits:
        plan.place(model, wish, neuron, room, f"{model.id} is pinned on {neuron.name} and not resident")
    elif room.waits:
        plan.occupy(neuron)  # what becomes free there is the pinned model's, not the next request's


def keep_replicas(plan: Round, model: WantedModel) -> None:
    """Load replicas up to ``min_replicas``: where room is free first, else as ``on_pressure`` allows."""
    missing = model.min_replicas - plan.replicas(model)
    reason = f"{model.id} has fewer than {model.min_replicas} replicas (replicas.min)"
    for may_evict in (False, True) if model.on_pressure == "evict" else (False,):
        free = [
            (wish, neuron)
            for wish, neuron in plan.placements(model)
            if not plan.holds(neuron, model.id) and plan.in_backoff(model.id, neuron.name) is None
        ]
        if may_evict and any(neuron.busy for _, neuron in free):
            return  # room may just be being made there
        for wish, neuron in free:
            if missing <= 0:
                return
            if neuron.busy:
                continue
            room = plan.room(model, wish, neuron, may_evict=may_evict)
            if room.fits:
                plan.place(model, wish, neuron, room, reason)
                missing -= 1


def answer(plan: Round, request: OpenRequest) -> None:
    """Move a waiting request on: fulfil it, load, make room, let it wait, or refuse it."""
    model = plan.desired.models.get(request.model)
    if model is None or not model.placements:
        why = "is not in the current generation" if model is None else "has no placement"
        plan.actions.append(Refuse(request.id, request.model, f"{request.model} {why}"))
        return
    here = plan.placements(model)
    for _, neuron in here:
        resident = neuron.residents.get(model.id)
        if resident and resident.state == "loaded":
            reason = f"{model.id} is loaded on {neuron.name}"
            plan.actions.append(Fulfil(request.id, model.id, neuron.name, reason))
            return
    if plan.planned[model.id] or any(plan.holds(neuron, model.id) for _, neuron in here):
        return  # on its way in or out; the next round sees the result
    _load_somewhere(plan, model, here, request)


def add_replica(plan: Round, model: WantedModel) -> None:
    """One more replica when all are saturated and ``max_replicas`` allows it; only where room is free."""
    loaded = plan.loaded(model)
    if model.max_replicas is None or not loaded or len(loaded) < plan.replicas(model) or not plan.may_add(model):
        return
    if any(replica.in_flight < model.max_sequences for replica in loaded):
        return
    for wish, neuron in plan.placements(model):
        if neuron.busy or plan.holds(neuron, model.id) or plan.in_backoff(model.id, neuron.name):
            continue
        room = plan.room(model, wish, neuron, may_evict=False)
        if room.fits:
            reason = f"all {len(loaded)} replicas of {model.id} are saturated (replicas.max = {model.max_replicas})"
            plan.place(model, wish, neuron, room, reason)
            return


def _load_somewhere(
    plan: Round, model: WantedModel, here: list[tuple[PlacementWish, NeuronState]], request: OpenRequest
) -> None:
    usable: list[tuple[int, PlacementWish, NeuronState, Room]] = []
    notes: list[str] = []
    coming = full = False
    for wish, neuron in here:
        failure = plan.in_backoff(model.id, neuron.name)
        if failure is not None:
            notes.append(f"{neuron.name}: {failure.error}")
            continue
        room = plan.room(model, wish, neuron, may_evict=model.on_pressure == "evict")
        if room.fits and not neuron.busy:
            usable.append((len(usable), wish, neuron, room))
        elif room.fits:
            coming = True
        else:
            full = full or neuron.busy or room.waits
            notes.append(room.explanation)
    if usable:
        _, wish, neuron, room = min(usable, key=lambda u: (len(u[3].victims) > 0, u[0]))
        plan.place(model, wish, neuron, room, f"a request waits for {model.id}", (request.id,))
        return
    waited_s = plan.now - request.requested_at
    away = [wish.neuron for wish in model.placements if plan.up(wish.neuron) is None]
    if coming:
        return
    later = full and (model.on_pressure == "refuse" or waited_s >= plan.desired.wait_s)
    if not later and (full or (away and waited_s < AWAY_GRACE_S)):
        return
    notes += [f"{name} does not answer" for name in away]
    reason = f"{model.id} cannot be loaded: " + ("; ".join(notes))
    inputs = {"away": away, "notes": notes, "on_pressure": model.on_pressure, "waited_s": round(waited_s, 1)}
    plan.actions.append(Refuse(request.id, model.id, reason, inputs, later))
