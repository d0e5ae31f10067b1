"""What the client side of a dialect makes of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Encoded:
    """``body`` is to be sent as JSON.

    ``dropped`` names the wishes that the wire has no words for and that an answer can do without; what it cannot do
    without is refused instead.
    """

    body: dict[str, Any]
    dropped: tuple[str, ...] = ()
