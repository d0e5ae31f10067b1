"""Phase 4: which model may live on which devices, with the proof that it fits. Pure.

``domain`` has what a model may use, ``arrange`` finds devices for what is pinned, ``candidates`` for the rest,
``messages`` the arithmetic in words, ``proof`` puts them together. docs/decisions/0007-placement-proof.md says why so.
"""

from compiler.place.proof import place

__all__ = ["place"]
