"""Cold loads that clients wait for: the gateway's half (the controller's lies in ``load_requests_async``).

One open row per model, kept by a unique index: whoever comes second waits for the first one's load.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from cortexd.models import LoadRequest


@dataclass(frozen=True, slots=True)
class LoadState:
    """``state`` as in the table; ``neuron`` is set once chosen, ``error`` says why it failed, in the neuron's words."""

    state: str
    neuron: str | None
    error: str | None


def ensure_open(engine: Engine, model: str, now: float) -> int:
    """The id of the open request for ``model``; inserts one when there is none. ``now`` is in Unix seconds."""
    opened = select(LoadRequest.id).where(LoadRequest.model == model, LoadRequest.open == 1)
    while True:
        with engine.begin() as connection:
            found = connection.execute(opened).scalar()
        if found is not None:
            return found
        try:
            with engine.begin() as connection:
                row = insert(LoadRequest).values(model=model, state="queued", open=1, requested_at=now, changed_at=now)
                return int(connection.execute(row.returning(LoadRequest.id)).scalar_one())
        except IntegrityError:
            continue  # another gateway was quicker: take its row


def state(engine: Engine, request_id: int) -> LoadState | None:
    """How far the request is; None when the row is gone."""
    with engine.connect() as connection:
        row = connection.execute(
            select(LoadRequest.state, LoadRequest.neuron, LoadRequest.error).where(LoadRequest.id == request_id)
        ).first()
    return None if row is None else LoadState(row.state, row.neuron, row.error)
