"""Enabling units in an image: the links that their [Install] sections ask for, without a manager."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from cortexd.deploy.host.durable import link, sync_folder
from cortexd.deploy.host.layout import Layout

_KINDS = {"WantedBy": "wants", "RequiredBy": "requires"}


def enable_offline(layout: Layout, units: Mapping[str, bytes], gone: Sequence[str]) -> None:
    """Make the links of ``units``, and remove every other link to them and to those that are ``gone``."""
    wanted = {}
    ours = {*units, *gone}
    for name, data in units.items():
        for kind, target in _install_section(data):
            if kind in _KINDS:
                wanted[layout.unit_folder / f"{target}.{_KINDS[kind]}" / name] = f"../{name}"
            elif kind == "Alias":
                wanted[layout.unit_folder / target] = name
    for path in [*layout.unit_folder.glob("*.wants/*"), *layout.unit_folder.glob("*.requires/*")]:
        if path.name in ours and path.is_symlink() and path not in wanted:
            path.unlink()
    for path in layout.unit_folder.iterdir():
        if path.is_symlink() and os.fspath(path.readlink()) in ours and path not in wanted:
            path.unlink()
    for path, target in sorted(wanted.items()):
        path.parent.mkdir(exist_ok=True)
        if not path.is_symlink() or os.fspath(path.readlink()) != target:
            link(path, target)
    sync_folder(layout.unit_folder)


def _install_section(data: bytes) -> list[tuple[str, str]]:
    found = []
    section = ""
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Install]" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found += [(key.strip(), word) for word in value.split()]
    return found
