"""GET /v1/models and /v1/models/{id}: what this fleet can serve, loaded or not."""

from __future__ import annotations

from typing import Any

import falcon
import orjson

from cortexd.gateway.core import Core
from cortexd.protocol.errors import invalid_request
from cortexd.routing.choose import Refuse, choose
from cortexd.routing.snapshot import ModelView, Snapshot

OWNER = "cortexd"


def entry(snapshot: Snapshot, name: str, model: ModelView) -> dict[str, Any]:
    """One catalogue entry; an alias has one of its own, under its own name."""
    held = snapshot.residents.get(model.id, ())
    up = {neuron.name for neuron in snapshot.neurons.values() if neuron.healthy}
    locations = [{"node": r.neuron, "status": r.state} for r in held if r.neuron in up]
    return {
        "id": name,
        "object": "model",
        "created": int(snapshot.applied_at),
        "owned_by": OWNER,
        "task": model.task,
        "loaded": any(place["status"] == "loaded" for place in locations),
        "feasible_on": [neuron for neuron in model.placements if neuron in up],
        "locations": locations,
        "limit": {"context": model.context},
        "max_model_len": model.context,
    }


class Models:
    """The whole list, models first, then aliases."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with an OpenAI list."""
        self._core.authenticate(req.get_header("Authorization"))
        snapshot = self._core.snapshot
        entries = [entry(snapshot, name, model) for name, model in snapshot.models.items()]
        for name in snapshot.aliases:
            if (model := snapshot.resolve(name)) is not None:
                entries.append(entry(snapshot, name, model))
        resp.content_type = "application/json"
        resp.data = orjson.dumps({"object": "list", "data": entries})


class ModelEntry:
    """One entry. An id may contain slashes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: str) -> None:
        """Answer with the entry, or 404 with the nearest name."""
        self._core.authenticate(req.get_header("Authorization"))
        snapshot = self._core.snapshot
        model = snapshot.resolve(model_id)
        if model is None:
            unknown = choose(snapshot, model_id, {}, 0.0)
            if isinstance(unknown, Refuse):
                raise unknown.error
            raise invalid_request(f"The model '{model_id}' does not exist.", code="model_not_found", status=404)
        resp.content_type = "application/json"
        resp.data = orjson.dumps(entry(snapshot, model_id, model))
