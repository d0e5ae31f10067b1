"""Which hash each unit runs with, so that exactly those restart that need it, wherever an earlier agent was killed.

systemd gives each start of a unit an invocation id. The record holds, for known invocations, the hash that they were
started with, and ``loaded``: the hashes that any other invocation has, because the files were wholly in place when it
started. While files are being changed ``loaded`` is None: what starts then has unknown settings and restarts again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cortexd.deploy.host.durable import read_file, write_file
from cortexd.deploy.host.layout import Layout

UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Running:
    """``known``: unit -> (invocation id, hash)."""

    loaded: Mapping[str, str] | None = None
    known: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def hash_of(self, unit: str, invocation: str) -> str | None:
        """What that invocation runs with; None when it does not run; UNKNOWN when nobody can tell."""
        if not invocation:
            return None
        if unit in self.known and self.known[unit][0] == invocation:
            return self.known[unit][1]
        return UNKNOWN if self.loaded is None else self.loaded.get(unit, UNKNOWN)

    def before_change(self, invocations: Mapping[str, str]) -> Running:
        """To be recorded before a file changes: what runs now stays known, what starts from now on is not."""
        known = {unit: (i, self.hash_of(unit, i) or UNKNOWN) for unit, i in invocations.items() if i}
        return Running(None, known)

    def after_change(self, invocations: Mapping[str, str], hashes: Mapping[str, str]) -> Running:
        """To be recorded when all files are in place and the manager has read them; units restart after it."""
        known = {unit: (i, self.hash_of(unit, i) or UNKNOWN) for unit, i in invocations.items() if i}
        return Running(dict(hashes), known)


def load_running(layout: Layout) -> Running:
    """The record of this host; an empty one, after which everything restarts, when there is none to trust."""
    try:
        said = json.loads(read_file(layout.state / "started.json", 0 if layout.as_root else None))
        loaded = said["loaded"]
        known = {str(unit): (str(pair[0]), str(pair[1])) for unit, pair in said["known"].items()}
        return Running(None if loaded is None else {str(k): str(v) for k, v in loaded.items()}, known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return Running()


def save_running(layout: Layout, running: Running) -> None:
    """Safe on disk when it returns."""
    said = {"loaded": running.loaded, "known": {unit: list(pair) for unit, pair in sorted(running.known.items())}}
    write_file(layout.state / "started.json", json.dumps(said, sort_keys=True).encode() + b"\n")
