"""The tables of the control database. Imports SQLAlchemy and nothing else of ours.

``desired`` is written by apply, ``observed`` by the controller (and load requests by gateways), ``ledger`` by gateways.
"""

from cortexd.models.base import Base
from cortexd.models.desired import (
    Account,
    Alias,
    ApplyHistory,
    Device,
    Generation,
    Host,
    Key,
    Live,
    Model,
    Neuron,
    Placement,
)
from cortexd.models.ledger import Usage
from cortexd.models.observed import (
    Decision,
    DeviceObservation,
    LoadRequest,
    MemoryObservation,
    NeuronObservation,
    Resident,
)

__all__ = [
    "Account",
    "Alias",
    "ApplyHistory",
    "Base",
    "Decision",
    "Device",
    "DeviceObservation",
    "Generation",
    "Host",
    "Key",
    "Live",
    "LoadRequest",
    "MemoryObservation",
    "Model",
    "Neuron",
    "NeuronObservation",
    "Placement",
    "Resident",
    "Usage",
]
