"""host.json: what the compiler tells the agent about the units of a host. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cortexd.deploy.host.protocol import HostError

SCHEMA = 1
# The only names that are installed, and above all the only ones that are ever removed.
OURS = re.compile(r"(cortexd(-[\w.-]+)?|neuron@[\w.:\\-]+)\.(service|socket|target)\Z")


@dataclass(frozen=True, slots=True)
class Unit:
    """``hash``: over all that it is started from. ``ready``: the URL that answers 200 when it is."""

    name: str
    kind: str
    hash: str
    ready: str | None


@dataclass(frozen=True, slots=True)
class HostFile:
    """``units`` in the order of starting. ``user_prefix`` counts from the home folder."""

    prefix: str
    user_prefix: str
    programs: tuple[str, ...]
    units: tuple[Unit, ...]

    @property
    def hashes(self) -> dict[str, str]:
        """Unit -> hash."""
        return {unit.name: unit.hash for unit in self.units}


def read_host_file(files: Mapping[str, bytes]) -> HostFile:
    """The host.json among a generation's files. Raises HostError when it is missing, or not one."""
    data = files.get("host.json")
    if data is None:
        raise HostError("the generation has no host.json for this host; compile again with this release")
    try:
        said = json.loads(data)
        if said["schema"] != SCHEMA:
            raise HostError(f"host.json has schema {said['schema']}; this release reads {SCHEMA}: compile again")
        units = tuple(
            Unit(u["name"], u["name"].rpartition(".")[2], str(u["hash"]), u.get("ready")) for u in said["units"]
        )
        found = HostFile(said["prefix"], said["user_prefix"], tuple(said["programs"]), units)
        if not all(isinstance(text, str) for text in (found.prefix, found.user_prefix, *found.programs)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError("host.json is not one that the compiler wrote; compile again") from None
    for name in [unit.name for unit in units] + list(found.programs):
        if "/" in name or (name not in found.programs and not OURS.match(name)):
            raise HostError(f"host.json names {name}, which is none of cortexd's; compile again")
    return found


def unit_files(host: HostFile, files: Mapping[str, bytes], variant: str) -> dict[str, bytes]:
    """Unit -> its file, of that variant. Raises HostError when one is missing."""
    found = {}
    for unit in host.units:
        data = files.get(f"systemd/{variant}/{unit.name}")
        if data is None:
            raise HostError(f"the generation lacks systemd/{variant}/{unit.name}; compile again")
        found[unit.name] = data
    return found
