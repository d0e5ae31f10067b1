"""How an apply is watched and bounded. Needs no database, so that a host that pulls can use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cortexd.deploy.hosts import Connect, connect_host

# Generations that are kept beside the live one, for rollback.
KEEP = 10


def _nothing(_: str) -> None:
    """What is done between steps when nobody watches."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``timeout_s``: for all hosts to be ready. ``clock``: Unix seconds for the history.

    ``tell`` gets a line about what comes next; ``after`` the name of each step that was done (tests kill there).
    """

    timeout_s: float = 120.0
    clock: Callable[[], float] = time.time
    tell: Callable[[str], None] = _nothing
    after: Callable[[str], None] = _nothing
    connect: Connect = connect_host
    keep: int = KEEP
