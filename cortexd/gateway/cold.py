"""Cold loads that this worker's requests wait for: one follower per model, however many wait."""

from __future__ import annotations

import logging
import time

import gevent
from gevent.event import Event
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from cortexd.protocol.errors import ApiError, unavailable
from cortexd.store import load_requests

log = logging.getLogger("cortexd.gateway")

_POLL_S = 0.1
# Room comes with the end of somebody's answer, or of an idle time.
_NO_ROOM_S = 10


class ColdLoad:
    """What becomes of one load: when ``ended`` is set, ``neuron`` holds the model or ``error`` says why none does."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.ended = Event()
        self.neuron: str | None = None
        self.error: ApiError | None = None


class ColdLoads:
    """Opens load requests and follows them in the database, from gevent's pool of real threads."""

    def __init__(self, engine: Engine, wait_s: float) -> None:
        self._engine = engine
        self._wait_s = wait_s
        self._open: dict[str, ColdLoad] = {}

    def follow(self, model: str) -> ColdLoad:
        """The load of ``model``: the one under way here, or a new one."""
        load = self._open.get(model)
        if load is None:
            load = self._open[model] = ColdLoad(model)
            gevent.spawn(self._run, load)
        return load

    def _run(self, load: ColdLoad) -> None:
        try:
            self._follow(load)
        except SQLAlchemyError as e:
            cause = str(getattr(e, "orig", None) or e).splitlines()[0]
            log.warning("no load of %s can be asked for, the database is away: %s", load.model, cause)
            load.error = unavailable(
                f"Model '{load.model}' is not loaded, and the control database is away.", retry_after=5
            )
        finally:
            del self._open[load.model]
            load.ended.set()

    def _follow(self, load: ColdLoad) -> None:
        threads = gevent.get_hub().threadpool
        deadline = time.monotonic() + self._wait_s
        request_id = threads.apply(load_requests.ensure_open, (self._engine, load.model, time.time()))
        while time.monotonic() < deadline:
            state = threads.apply(load_requests.state, (self._engine, request_id))
            if state is None or state.state == "cancelled":
                load.error = unavailable(f"The load of '{load.model}' was given up.", retry_after=5)
                return
            if state.state == "loaded":
                load.neuron = state.neuron
                return
            if state.state == "failed":
                reason = state.error or "no reason was given"
                load.error = ApiError(
                    503, "api_error", "model_load_failed", f"Model '{load.model}' could not be loaded: {reason}"
                )
                return
            if state.state == "refused":
                message = f"There is no room for model '{load.model}' now: {state.error or 'no reason was given'}"
                load.error = unavailable(message, retry_after=_NO_ROOM_S, code="no_room")
                return
            gevent.sleep(_POLL_S)
        load.error = unavailable(f"Model '{load.model}' is not loaded after {self._wait_s:.0f} s.", retry_after=30)
