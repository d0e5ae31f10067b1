"""GET /health, /, /ready, /version: for load balancers and people. No key needed."""

from __future__ import annotations

import falcon
import orjson

from cortexd import __version__
from cortexd.gateway.core import Core
from cortexd.routing.snapshot import Snapshot


def why_not_ready(snapshot: Snapshot) -> str | None:
    """None when requests can be answered, else what is missing.

    Ready: a generation is live, a neuron is reachable, and where models are pinned, at least one of them is loaded.
    """
    if snapshot.generation is None:
        return "nothing was applied yet"
    up = {neuron.name for neuron in snapshot.neurons.values() if neuron.healthy}
    if not up:
        return "no neuron is reachable"
    pinned = [model.id for model in snapshot.models.values() if model.pinned]
    residents = [resident for held in snapshot.residents.values() for resident in held]
    loaded = {resident.model for resident in residents if resident.state == "loaded" and resident.neuron in up}
    if pinned and not loaded.intersection(pinned):
        return "no pinned model is loaded yet"
    return None


class Health:
    """Whether the gateway lives: always 200 when it does."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """``degraded``: not every neuron is reachable, or there is none."""
        neurons = self._core.snapshot.neurons.values()
        healthy = sum(neuron.healthy for neuron in neurons)
        status = "ok" if neurons and healthy == len(neurons) else "degraded"
        _json(resp, {"status": status, "nodes": {"healthy": healthy, "total": len(neurons)}})

    # some clients look first whether anybody is there
    on_head = on_get


class Ready:
    """Whether it can answer: 200, or 503 with the reason."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """See ``why_not_ready``."""
        reason = why_not_ready(self._core.snapshot)
        if reason is not None:
            resp.status = 503
        body = {"ready": reason is None, "reason": reason, "generation": self._core.snapshot.generation}
        _json(resp, {**body, "unresolved_keys": len(self._core.picture.secrets.problems)})


class Version:
    """Which release this is."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The package's version."""
        _json(resp, {"name": "cortexd", "version": __version__})


def _json(resp: falcon.Response, body: dict[str, object]) -> None:
    resp.content_type = "application/json"
    resp.data = orjson.dumps(body)
