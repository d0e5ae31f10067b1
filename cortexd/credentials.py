"""Secrets that the service manager read for us (``LoadCredential=``). Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def credential(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file of that credential; None where this process was started without it."""
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder or not name or "/" in name:
        return None
    path = Path(folder) / name
    try:
        path.stat()
    except FileNotFoundError:
        return None
    except OSError:  # whoever reads it says why it cannot
        return path
    return path


def token_file(neuron: str, declared: str) -> Path:
    """Where the token of a neuron is read: its credential, else the file that ``fleet.toml`` names."""
    return credential(f"token-{neuron}") or Path(declared)
