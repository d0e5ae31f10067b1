"""The decision: which replica, a cold load, or a refusal that says whether waiting helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cortexd.protocol.errors import ApiError, invalid_request, unavailable
from cortexd.routing.snapshot import KeyView, ModelView, ResidentView, Snapshot


@dataclass(frozen=True, slots=True)
class Route:
    """Try these neurons in this order."""

    model: ModelView
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColdLoad:
    """Nobody holds the model, somebody may: ask for a load and wait."""

    model: ModelView


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client. ``model`` is known unless the name was wrong."""

    error: ApiError
    model: ModelView | None = None


Decision = Route | ColdLoad | Refuse


def choose(
    snapshot: Snapshot,
    name: str,
    in_flight: Mapping[tuple[str, str], int],
    now: float,
    *,
    task: str = "chat",
    down_until: Mapping[str, float] | None = None,
    key: KeyView | None = None,
    output: tuple[str, int] | None = None,
) -> Decision:
    """Decide for one request.

    ``name`` is the id or alias that the client wrote, ``in_flight`` this gateway's own requests by (neuron, model),
    ``down_until`` neurons that did not accept a connection lately, with the time until which they come last. ``now`` is
    on the same clock as ``down_until``. ``key`` is the client's, ``output`` the member of its request that bounds the
    answer, with the tokens it asks for.
    """
    model = snapshot.resolve(name)
    if model is None:
        return Refuse(unknown(snapshot, name, key))
    if not may_use(key, model.id):
        return Refuse(_not_yours(key, name), model)
    if model.output_limit is not None and output is not None and output[1] > model.output_limit:
        return Refuse(_too_long(model, name, model.output_limit, output), model)
    if model.task != task:
        message = f"Model '{name}' is for {model.task}, not {task}."
        return Refuse(invalid_request(message, code="wrong_modality", param="model"), model)
    if not any(neuron.healthy for neuron in snapshot.neurons.values()):
        return Refuse(unavailable("No neuron of this fleet is reachable at the moment.", retry_after=5), model)
    healthy = {name for name, neuron in snapshot.neurons.items() if neuron.healthy}
    loaded = [r for r in snapshot.residents.get(model.id, ()) if r.state == "loaded" and r.neuron in healthy]
    if loaded:
        down = down_until or {}
        return Route(model, _ordered(loaded, model, in_flight, {n for n, until in down.items() if until > now}))
    if any(neuron in healthy for neuron in model.placements):
        return ColdLoad(model)
    if model.placements:
        message = f"The neurons that can hold '{model.id}' are not reachable: {', '.join(model.placements)}."
        return Refuse(unavailable(message, retry_after=3), model)
    message = f"No neuron of this fleet can hold '{model.id}'."
    return Refuse(ApiError(404, "api_error", "service_unavailable", message), model)


def _ordered(
    loaded: list[ResidentView], model: ModelView, in_flight: Mapping[tuple[str, str], int], down: set[str]
) -> tuple[str, ...]:
    """Least busy first. What a neuron reported is old, our own count is exact but only ours: the larger one counts."""
    rank_of = {neuron: rank for rank, neuron in enumerate(model.placements)}

    def rank(resident: ResidentView) -> tuple[bool, int, int, int, str]:
        own = in_flight.get((resident.neuron, model.id), 0)
        place = rank_of.get(resident.neuron, len(rank_of))
        busy = max(own, resident.in_flight + resident.queue_depth)
        return (resident.neuron in down, busy, own, place, resident.neuron)

    return tuple(resident.neuron for resident in sorted(loaded, key=rank))


def may_use(key: KeyView | None, model_id: str) -> bool:
    """Whether a client may use a model; one without a key of ours may, where keys are not required."""
    return key is None or key.models is None or model_id in key.models


def fallbacks(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    """The models that may answer when the one called ``name`` cannot, first choice first. Theirs do not count."""
    model = snapshot.resolve(name)
    return () if model is None else tuple(id for id in model.fallback if id != model.id)


def unknown(snapshot: Snapshot, name: str, key: KeyView | None = None) -> ApiError:
    """No such model: with the nearest name, of those that the client may use."""
    names = [n for n in (*snapshot.models, *snapshot.aliases) if may_use(key, snapshot.aliases.get(n, n))]
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else " GET /v1/models lists what this fleet serves."
    message = f"The model '{_shown(name)}' does not exist.{hint}"
    return invalid_request(message, code="model_not_found", param="model", status=404)


def _not_yours(key: KeyView | None, name: str) -> ApiError:
    whose = f"The key '{key.key_id}'" if key else "This client"
    message = f"{whose} may not use the model '{_shown(name)}'. GET /v1/models lists those that it may."
    return ApiError(403, "permission_error", "insufficient_permissions", message, "model")


def _too_long(model: ModelView, name: str, limit: int, output: tuple[str, int]) -> ApiError:
    member, asked = output
    message = (
        f"'{member}' is {asked}, and the model '{_shown(name)}' answers with at most {limit} tokens (limit.output)."
    )
    return invalid_request(message, code="invalid_value", param=member)


def _shown(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "…"
