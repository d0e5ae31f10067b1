"""cortexd: the control plane of a fleet of GPU hosts. See docs/architecture/overview.md."""

__version__ = "0.1.0"
