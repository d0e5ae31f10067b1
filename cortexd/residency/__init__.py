"""Which models are resident where: one pure function of (desired, observed, load requests, now) -> actions.

``state.py`` is what it reads, ``actions.py`` what it answers, ``memory.py`` the arithmetic, ``decide.py`` the policy,
``tidy.py`` its part that nobody waits for, ``round.py`` what both have done so far.
The controller carries the actions out; nothing here knows a clock, a socket or a query.
"""

from cortexd.residency.actions import Action, Defrag, Evict, Fulfil, Load, Refuse
from cortexd.residency.decide import decide, retry_at
from cortexd.residency.state import (
    Desired,
    DeviceState,
    EvictionPolicy,
    Failure,
    NeuronState,
    Observed,
    OpenRequest,
    PlacementWish,
    ResidentState,
    WantedModel,
)
from cortexd.residency.tidy import may_evict_by_itself

__all__ = [
    "Action",
    "Defrag",
    "Desired",
    "DeviceState",
    "Evict",
    "EvictionPolicy",
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
    "may_evict_by_itself",
    "retry_at",
]
