"""Which models are resident where: one pure function of (desired, observed, load requests, now) -> actions.

``state.py`` is what it reads, ``actions.py`` what it answers, ``memory.py`` the arithmetic, ``decide.py`` the policy.
The controller carries the actions out; nothing here knows a clock, a socket or a query.
"""

from cortexd.residency.actions import Action, Evict, Fulfil, Load, Refuse
from cortexd.residency.decide import decide, retry_at
from cortexd.residency.state import (
    Desired,
    DeviceState,
    Failure,
    NeuronState,
    Observed,
    OpenRequest,
    PlacementWish,
    ResidentState,
    WantedModel,
)

__all__ = [
    "Action",
    "Desired",
    "DeviceState",
    "Evict",
    "Failure",
    "Fulfil",
    "Load",
    "NeuronState",
    "Observed",
    "OpenRequest",
    "PlacementWish",
    "Refuse",
    "ResidentState",
    "WantedModel",
    "decide",
    "retry_at",
]
