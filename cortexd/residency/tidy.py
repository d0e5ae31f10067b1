"""The part of the policy that nobody waits for: what leaves because it is idle, too many, or not declared. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cortexd.residency.actions import Defrag, Evict
from cortexd.residency.round import Round
from cortexd.residency.state import HOLDS_MEMORY, Desired, NeuronState, OpenRequest, ResidentState


def may_evict_by_itself(desired: Desired) -> bool:
    """Whether anything may have to leave although nobody waits: only then does it matter who was used when."""
    return desired.eviction.defrag_after_cycles > 0 or any(
        model.idle_ttl_s is not None or model.min_replicas or model.max_replicas is not None
        for model in desired.models.values()
    )


def defrag(plan: Round, name: str, requests: Iterable[OpenRequest]) -> None:
    """After enough evictions, clear a neuron at a moment when nobody uses it or waits for it."""
    after = plan.desired.eviction.defrag_after_cycles
    count = plan.observed.evictions.get(name, 0)
    neuron = plan.up(name)
    if after <= 0 or count < after or neuron is None or neuron.busy:
        return
    wanted = (plan.desired.models.get(request.model) for request in requests)
    if any(model.placement_on(name) for model in wanted if model is not None):
        return
    there = [r for r in neuron.residents.values() if r.state in HOLDS_MEMORY]
    protected = plan.protected(neuron)
    if not all(r.idle and r.model not in protected for r in there):
        return
    models = tuple(sorted(r.model for r in there if _may_leave(plan, neuron, r)))
    reason = f"{count} evictions on {name} since its memory was last cleared (defrag_after_cycles = {after})"
    plan.actions.append(Defrag(name, models, reason, {"evictions": count, "models": list(models)}))
    plan.occupy(neuron)


def tidy(plan: Round, name: str, waited_for: frozenset[str]) -> None:
    """Unload one idle model that nobody declared here, that is one too many, or that outlived its idle time."""
    neuron = plan.up(name)
    if neuron is None or neuron.busy:
        return
    for resident in sorted(neuron.residents.values(), key=lambda r: (r.last_used, r.model)):
        if not resident.idle or resident.model in waited_for or plan.is_held(resident.model, name):
            continue
        reason = _reason(plan, neuron, resident)
        if reason is not None:
            unused_s = round(plan.now - resident.last_used, 1)
            plan.evict(Evict(resident.model, name, reason, inputs={"unused_s": unused_s}))
            plan.occupy(neuron)
            return


def _reason(plan: Round, neuron: NeuronState, resident: ResidentState) -> str | None:
    model = plan.desired.models.get(resident.model)
    if model is None or model.placement_on(neuron.name) is None:
        return f"{resident.model} is not placed on {neuron.name} in the current generation"
    if not _may_leave(plan, neuron, resident):
        return None
    most = model.most_replicas
    if most is not None and (there := plan.replicas(model) - plan.leaving(model)) > most:
        return f"{model.id} has {there} replicas, at most {most} are declared"
    unused_s = plan.now - resident.last_used
    if model.idle_ttl_s is not None and unused_s >= model.idle_ttl_s:
        return f"{model.id} was unused for {unused_s:.0f} s (idle_ttl_s = {model.idle_ttl_s:g})"
    return None


def _may_leave(plan: Round, neuron: NeuronState, resident: ResidentState) -> bool:
    """Neither pinned here, nor one of the replicas that are kept."""
    model = plan.desired.models.get(resident.model)
    wish = model.placement_on(neuron.name) if model else None
    return model is None or wish is None or not (wish.pinned or plan.is_kept(model))
