"""Deleting what is older than ``[retention]`` allows, in batches that hold no lock for long. Asynchronous."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd.models import Decision, LoadRequest, Usage

DAY_S = 86_400.0
# Requests that ended are of use only to those who still look for the answer.
LOAD_REQUEST_DAYS = 1.0
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many days rows are kept; None: for ever."""

    usage_days: float | None = None
    decision_days: float | None = None


def from_settings(settings: Mapping[str, Any]) -> Retention:
    """``generation.settings["retention"]``; what is not set is kept for ever."""
    return Retention(settings.get("usage_days"), settings.get("decision_days"))


async def delete_batch(engine: AsyncEngine, retention: Retention, now: float, batch: int = BATCH) -> int:
    """Delete at most ``batch`` rows that are too old, of one table, the oldest first. Returns how many that were.

    One transaction; ``now`` is in Unix seconds. 0: nothing is left to do. Raises SQLAlchemyError.
    """
    olds: tuple[tuple[Any, Any, float | None, Any], ...] = (
        (Usage.request_id, Usage.started_at, retention.usage_days, None),
        (Decision.id, Decision.at, retention.decision_days, None),
        (LoadRequest.id, LoadRequest.changed_at, LOAD_REQUEST_DAYS, LoadRequest.open.is_(None)),
    )
    for key, at, days, also in olds:
        if days is None:
            continue
        oldest = select(key).where(at < now - days * DAY_S).order_by(at).limit(batch)
        if also is not None:
            oldest = oldest.where(also)
        async with engine.begin() as connection:
            result = await connection.execute(delete(key.class_).where(key.in_(oldest)))
        if result.rowcount:
            return int(result.rowcount)
    return 0
