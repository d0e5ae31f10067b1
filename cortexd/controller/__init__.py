"""The controller: an asyncio process that polls neurons, records what they report, and carries residency out.

``neuron_client.py`` is HTTP to a neuron, ``report.py`` its answers as values, ``picture.py`` the picture of the fleet,
``watch.py`` polling, ``carry_out.py`` the actions, ``loop.py`` the rounds, ``run.py`` the process.
"""

from cortexd.controller.run import ControllerError, run

__all__ = ["ControllerError", "run"]
