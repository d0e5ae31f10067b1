"""What apply asks of a host and what it answers: plain values; JSON over ssh (``cortexd host ACTION``). Pure.

The five actions, in the order of an apply:

- ``prepare``: write ``STATE/generations/<hash>`` whole and safe on disk, check that the programs are there. Nothing
  that is in use changes.
- ``activate``: point ``STATE/etc`` to it, install and remove units, reload the manager, restart the units whose hash
  changed, start the new ones, stop the removed ones. Idempotent: killed anywhere and run again, it completes.
- ``ready``: wait until every unit of the generation is active and answers, at most ``timeout_s``.
- ``observe``: what is on this host, for drift. Changes nothing.
- ``prune``: delete the generations that are not in ``keep``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cortexd import __version__

Action = Literal["prepare", "activate", "ready", "observe", "prune"]

# files: only the files. system, user: units of that systemd manager. image: units below a root folder, nothing started.
Mode = Literal["files", "system", "user", "image"]


class HostError(Exception):
    """A host did not do what it was asked for; the message names the host and what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """One action on one host. ``files`` (path below ``hosts/<host>/`` -> content) are needed by ``prepare`` only.

    ``root`` is the image's folder in mode ``image``, else "/". ``keep``: generations that ``prune`` leaves.
    ``state_dir`` is what it is called on that host: "~/" means the home of the user who carries the order out there,
    and in mode ``image`` it lies below ``root``. ``version`` is the release that asks; a host with another refuses.
    """

    action: Action
    host: str
    mode: Mode
    state_dir: str
    generation: str
    root: str = "/"
    files: Mapping[str, bytes] = field(default_factory=dict)
    timeout_s: float = 120.0
    keep: tuple[str, ...] = ()
    version: str = __version__


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as the manager sees it. ``hash``: of the generation that it runs with; ``detail``: what is wrong."""

    name: str
    active: str
    main_pid: int | None = None
    hash: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a host answers. ``current``: the generation that ``etc`` points to, None before the first.

    ``changed``: units that were restarted, started or stopped, with the verb. ``files``: path -> sha256, as found under
    ``STATE/etc`` and among the installed units (``unit:NAME``). ``problems``: why it is not ready, or what differs.
    ``detail["notes"]``: what went not quite as it should, where that is no failure yet.
    """

    host: str
    current: str | None
    changed: tuple[tuple[str, str], ...] = ()
    units: tuple[UnitState, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


class Channel(Protocol):
    """The way to a host: in this process for the local one, ssh for the others. Used from several threads at once."""

    @property
    def host(self) -> str: ...

    def ask(self, order: Order) -> Report:
        """Carry the order out there. Raises HostError; blocks at most about ``order.timeout_s``."""
        ...
