"""Where a fleet lives on its hosts: the mode, the state folder, and the root of an image. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cortexd.deploy.host.protocol import Action, Mode, Order

SYSTEM_STATE = "/var/lib/cortexd"
USER_STATE = "~/.local/state/cortexd"
LOCAL_STATE = "var"
# There on every machine that systemd runs.
RUNNING_SYSTEMD = Path("/run/systemd/system")


class SiteError(Exception):
    """Options that contradict each other."""


@dataclass(frozen=True, slots=True)
class Site:
    """``state_dir`` is what it is called on every host, "~" being the home of whoever carries an order out there."""

    mode: Mode
    state_dir: str
    root: str = "/"

    @property
    def folder(self) -> Path:
        """The state folder of this machine, as a path that can be opened."""
        path = Path(self.state_dir).expanduser()
        return Path(self.root) / path.relative_to("/") if self.mode == "image" else path

    @property
    def has_units(self) -> bool:
        """Whether units are installed: ``system``, ``user`` and ``image``."""
        return self.mode != "files"

    def pull(self, host: str) -> str:
        """What to run on a host that cannot be reached, beside a copy of the generation."""
        more = {"user": " --user", "image": " --root IMAGE"}.get(self.mode, "")
        return f"cortexd apply --host {host}{more} GENERATION_DIR"

    def order(
        self,
        action: Action,
        host: str,
        generation: str,
        files: Mapping[str, bytes] | None = None,
        timeout_s: float = 60.0,
        keep: tuple[str, ...] = (),
    ) -> Order:
        """What a host of this site is asked."""
        return Order(
            action=action,
            host=host,
            mode=self.mode,
            state_dir=self.state_dir,
            generation=generation,
            root=self.root,
            files=dict(files or {}),
            timeout_s=timeout_s,
            keep=keep,
        )


def files_site(state_dir: Path) -> Site:
    """Mode ``files`` in a folder of choice."""
    return Site("files", str(state_dir.absolute()))


def choose(state_dir: Path | None, *, user: bool, mode: Mode | None, root: Path | None, as_root: bool) -> Site:
    """The site that options and machine ask for. ``as_root``: the user is root and systemd runs this machine.

    Raises SiteError when options contradict each other.
    """
    if user and mode not in (None, "user"):
        raise SiteError(f"--user is --mode user; it cannot be combined with --mode {mode}")
    if root is not None and (user or mode not in (None, "image")):
        raise SiteError("--root is for an image; it cannot be combined with --user or another --mode")
    if mode == "image" and root is None:
        raise SiteError("--mode image needs --root DIR, the folder of the image")
    if user:
        mode = "user"
    elif root is not None:
        mode = "image"
    elif mode is None:
        mode = "system" if state_dir is None and as_root else "files"
    if mode == "files":
        return files_site(state_dir or Path(LOCAL_STATE))
    fixed = USER_STATE if mode == "user" else SYSTEM_STATE
    if state_dir is not None and state_dir.expanduser().absolute() != Path(fixed).expanduser():
        raise SiteError(
            f"in mode {mode} the units name {fixed} as the state folder; leave --state-dir (and CORTEXD_STATE_DIR) "
            "out, or use --mode files"
        )
    return Site(mode, fixed, str(root.resolve()) if root is not None else "/")


def default_folder(*, user: bool, as_root: bool) -> Path:
    """The state folder that commands read when none is named."""
    if user:
        return Path(USER_STATE).expanduser()
    return Path(SYSTEM_STATE if as_root else LOCAL_STATE)
