"""neuron: the daemon that runs models on one host. It needs no database and never imports torch outside of export."""

from cortexd import __version__

__all__ = ["__version__"]
