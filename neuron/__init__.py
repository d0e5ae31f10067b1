"""neuron: the daemon that runs models on one host. It needs no database and never imports torch outside of export."""

import os

from cortexd import __version__

# ONNX Runtime reports to its makers unless it is told not to, from the moment it is imported. What runs on these hosts
# is nobody else's business; an operator who sees that otherwise sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["__version__"]
