"""Where things lie on a host, per mode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cortexd.deploy.host.protocol import HostError, Mode, Order


@dataclass(frozen=True, slots=True)
class Layout:
    """Folders of one host. Mode ``files`` has no ``units`` and no ``variant``; ``sysusers``: root's modes."""

    mode: Mode
    root: Path
    state: Path
    units: Path | None
    variant: str | None
    sysusers: Path | None
    tmpfiles: Path | None

    @property
    def generations(self) -> Path:
        """One folder for each generation that this host keeps."""
        return self.state / "generations"

    @property
    def etc(self) -> Path:
        """The link to the generation in use."""
        return self.state / "etc"

    @property
    def unit_folder(self) -> Path:
        """Where systemd reads unit files. Raises HostError in mode ``files``."""
        if self.units is None:
            raise HostError("mode files installs no units")
        return self.units

    @property
    def as_root(self) -> bool:
        """Whether the files belong to root and are read by group ``cortexd``."""
        return self.mode in ("system", "image")

    def generation(self, name: str) -> Path:
        """The folder of one."""
        return self.generations / name


def layout_of(order: Order) -> Layout:
    """The folders that the order is about. Raises HostError when they cannot be told."""
    try:
        state = Path(order.state_dir).expanduser()
    except RuntimeError as e:
        raise HostError(f"{order.state_dir}: {e}") from None
    root = Path(order.root)
    if order.mode in ("system", "image"):
        if not state.is_absolute() or not root.is_absolute():
            raise HostError(f"{order.state_dir} below {order.root}: both must be absolute in mode {order.mode}")
        if order.mode == "system" and root != Path("/"):
            raise HostError("mode system is for the running machine; use mode image for a folder")
        below = root / "etc"
        return Layout(
            mode=order.mode,
            root=root,
            state=root / state.relative_to("/"),
            units=below / "systemd" / "system",
            variant="system",
            sysusers=below / "sysusers.d",
            tmpfiles=below / "tmpfiles.d",
        )
    if order.mode == "user":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return Layout("user", Path("/"), state, config / "systemd" / "user", "user", None, None)
    return Layout("files", Path("/"), state, None, None, None, None)
