"""Where the files lie that are not Python: beside the packages in a checkout, inside ``cortexd/_data`` in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Path of ``templates``, ``migrations`` or an example file. Raises FileNotFoundError for a broken installation."""
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is missing from this installation of cortexd; install it again")
