"""The controller's half of ``load_request``: read what is open, move it on.

Raises SQLAlchemyError when the database does. Every function is one transaction; times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd.models import LoadRequest
from cortexd.residency.state import OpenRequest


async def open_requests(engine: AsyncEngine) -> tuple[OpenRequest, ...]:
    """All queued and loading requests, the longest waiting first. Cheap: a partial index holds only open rows."""
    query = (
        select(LoadRequest.id, LoadRequest.model, LoadRequest.state, LoadRequest.requested_at)
        .where(LoadRequest.open == 1)
        .order_by(LoadRequest.requested_at, LoadRequest.id)
    )
    async with engine.connect() as connection:
        return tuple(OpenRequest(*row) for row in await connection.execute(query))


async def set_loading(engine: AsyncEngine, ids: tuple[int, ...], neuron: str, now: float) -> None:
    """A load for these requests starts on ``neuron``."""
    await _change(engine, ids, now, state="loading", neuron=neuron, error=None)


async def requeue(engine: AsyncEngine, ids: tuple[int, ...], error: str | None, now: float) -> None:
    """The load did not come about; another placement, or a refusal, is decided next. ``error`` says what went wrong."""
    await _change(engine, ids, now, state="queued", neuron=None, error=error)


async def finish(
    engine: AsyncEngine,
    ids: tuple[int, ...],
    state: str,
    now: float,
    *,
    neuron: str | None = None,
    error: str | None = None,
) -> None:
    """Close requests as ``loaded`` (with the neuron), ``failed`` or ``refused`` (with the error)."""
    await _change(engine, ids, now, state=state, open=None, neuron=neuron, error=error)


async def reset_orphans(engine: AsyncEngine, now: float) -> int:
    """Queue again what a controller that is gone had begun. Returns how many rows that were."""
    query = update(LoadRequest).where(LoadRequest.open == 1, LoadRequest.state == "loading")
    async with engine.begin() as connection:
        result = await connection.execute(query.values(state="queued", neuron=None, changed_at=now))
        return int(result.rowcount)


async def _change(engine: AsyncEngine, ids: tuple[int, ...], now: float, **values: object) -> None:
    if not ids:
        return
    query = update(LoadRequest).where(LoadRequest.id.in_(ids), LoadRequest.open == 1)
    async with engine.begin() as connection:
        await connection.execute(query.values(changed_at=now, **values))
