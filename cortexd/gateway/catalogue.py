"""GET /v1/models and /v1/models/{id}: what this fleet can serve, loaded or not."""

from __future__ import annotations

from typing import Any

import falcon
import orjson

from cortexd.dialects.models import for_both, listing
from cortexd.gateway.access import authenticate
from cortexd.gateway.core import Core
from cortexd.routing.choose import may_use, unknown
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
        "limit": {"context": model.context, **model.settings.get("limits", {})},
        "max_model_len": model.context,
        # What the operator declared, as declared; absent where nothing was.
        **{key: model.settings[key] for key in ("capabilities", "cost") if key in model.settings},
    }


class Models:
    """The whole list, models first, then aliases; without those that the key may not use."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with a list that clients of OpenAI and of Anthropic read."""
        key = authenticate(self._core, req)
        snapshot = self._core.snapshot
        entries = [
            entry(snapshot, name, model)
            for name in (*snapshot.models, *snapshot.aliases)
            if (model := snapshot.resolve(name)) is not None and may_use(key, model.id)
        ]
        resp.content_type = "application/json"
        resp.data = orjson.dumps(listing(entries))


class ModelEntry:
    """One entry. An id may contain slashes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response, model_id: str) -> None:
        """Answer with the entry, or 404 with the nearest name."""
        key = authenticate(self._core, req)
        snapshot = self._core.snapshot
        model = snapshot.resolve(model_id)
        if model is None or not may_use(key, model.id):
            raise unknown(snapshot, model_id, key)
        resp.content_type = "application/json"
        resp.data = orjson.dumps(for_both(entry(snapshot, model_id, model)))
