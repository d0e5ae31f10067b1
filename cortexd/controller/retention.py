"""Deletes old rows beside the rounds, a batch at a time, so that neither rounds nor the ledger wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd.store.retention import Retention, delete_batch

log = logging.getLogger("cortexd.controller")

# Between two batches others get to write; after the last one there is nothing to do for a while.
BETWEEN_S = 0.5
IDLE_S = 60.0


async def keep_deleting(engine: AsyncEngine, retention: Callable[[], Retention], clock: Callable[[], float]) -> None:
    """For ever, until cancelled. ``retention`` is asked before each batch; ``clock`` gives Unix seconds."""
    deleted = 0
    await asyncio.sleep(BETWEEN_S)  # the first round reads the generation meanwhile
    while True:
        try:
            found = await delete_batch(engine, retention(), clock())
        except SQLAlchemyError:
            found = 0  # the rounds say that the database is away
        deleted += found
        if deleted and not found:
            log.info("deleted %d rows that were older than [retention] allows", deleted)
            deleted = 0
        await asyncio.sleep(BETWEEN_S if found else IDLE_S)
