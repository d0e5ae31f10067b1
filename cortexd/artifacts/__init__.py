"""Artifacts by content: a store of blobs, and how what is missing there comes over HTTP. Standard library only.

Used by the control plane (``cortexd model pull``, the gateway that serves) and by neurons (which fetch). All of it
blocks: call it from threads of its own, never on an event loop or a device's thread.
"""
