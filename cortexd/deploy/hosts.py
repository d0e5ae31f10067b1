"""The hosts of a generation, the way to each, and whether what is found there is what it says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.host.protocol import Action, Channel, HostError, Report
from cortexd.deploy.reach.everywhere import ask_all
from cortexd.deploy.reach.local import LocalChannel
from cortexd.deploy.reach.ssh import SshChannel
from cortexd.deploy.site import Site

# Where cortexd is installed on a host whose generation does not say it.
_PREFIX, _USER_PREFIX = "/opt/cortexd", ".local/share/cortexd"

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# How a host names what it has installed outside of the state folder.
_INSTALLED = ("unit:", "sysusers.d:", "tmpfiles.d:")

Answers = Mapping[str, Report | HostError]
# Host name, its `ssh` or None for the gateway host, what its host.json says.
Connect = Callable[[str, str | None, Mapping[str, Any], Site], Channel]


@dataclass(frozen=True, slots=True)
class Hosts:
    """``channels``: the hosts that are served from here, ``by_hand``: those that nobody can reach.

    ``here`` is this machine: whatever a generation calls its gateway host, unless it ``pulls`` the part of another.
    """

    site: Site
    here: str
    pulls: bool
    channels: tuple[Channel, ...]
    by_hand: tuple[str, ...]
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts that are served from here."""
        return tuple(channel.host for channel in self.channels)

    def serve(self, generation: CompiledGeneration, host: str) -> bool:
        """Whether the host belongs to that generation."""
        return host == self.here or host in generation.hosts

    def ask(
        self,
        action: Action,
        generation: CompiledGeneration | str,
        *,
        only: Sequence[str] | None = None,
        timeout_s: float = 60.0,
        keep: tuple[str, ...] = (),
    ) -> dict[str, Report | HostError]:
        """The same of each host, at once; files go along where they are needed. A host that leaves gets no unit."""
        name = generation if isinstance(generation, str) else generation.hash
        pairs = []
        for channel in self.channels:
            if only is not None and channel.host not in only:
                continue
            host, files = channel.host, {}
            if not isinstance(generation, str):
                host = generation.gateway_host if host == self.here and not self.pulls else host
                if action == "prepare":
                    files = generation.host_files(host) or self._farewell(channel.host)
            pairs.append((channel, self.site.order(action, host, name, files, timeout_s, keep)))
        return ask_all(pairs)

    def _farewell(self, host: str) -> dict[str, bytes]:
        """For a host that is not in a generation: no program, no unit."""
        gone = {**self.facts[host], "programs": [], "units": []}
        return {"host.json": json.dumps(gone, indent=2, sort_keys=True).encode("utf-8") + b"\n"}


def connect_host(host: str, ssh: str | None, facts: Mapping[str, Any], site: Site) -> Channel:
    """In this process, or over ssh."""
    if ssh is None:
        return LocalChannel(host)
    if site.mode == "user":
        prefix = str(facts.get("user_prefix", _USER_PREFIX))
    else:
        prefix = str(facts.get("prefix", _PREFIX))
    return SshChannel(host, ssh, prefix)


def hosts_of(
    site: Site, *generations: CompiledGeneration | None, connect: Connect = connect_host, only: str | None = None
) -> Hosts:
    """The hosts of all these generations; how to reach one is read from the first that has it.

    An image is one machine: the others are applied to by hand. ``only`` one host: this machine, whatever its name.
    """
    channels: dict[str, Channel] = {}
    by_hand: list[str] = []
    facts: dict[str, Mapping[str, Any]] = {}
    first = next(generation for generation in generations if generation is not None)
    here = only or first.gateway_host
    for generation in generations:
        if generation is None:
            continue
        ssh = {row["name"]: row["ssh"] for row in generation.tables["host"]}
        for host in sorted(generation.hosts, key=lambda name: (name != here, name)):
            if host in channels or host in by_hand or (only is not None and host != only):
                continue
            if host != here and (host == generation.gateway_host):  # what this machine was called before
                continue
            if host != here and (site.mode == "image" or not ssh.get(host)):
                by_hand.append(host)
                continue
            facts[host] = host_facts(generation, host)
            channels[host] = connect(host, None if host == here else ssh[host], facts[host], site)
    return Hosts(site, here, only is not None, tuple(channels.values()), tuple(by_hand), facts)


def host_facts(generation: CompiledGeneration | None, host: str) -> Mapping[str, Any]:
    """``host.json``; empty where there is none."""
    data = generation.files.get(f"hosts/{host}/host.json") if generation is not None else None
    return dict(json.loads(data)) if data is not None else {}


def unit_hashes(generation: CompiledGeneration | None, host: str) -> dict[str, str]:
    """Unit -> hash of what it is started from, in the order of starting."""
    return {unit["name"]: unit["hash"] for unit in host_facts(generation, host).get("units", ())}


def differing(generation: CompiledGeneration, report: Report) -> list[tuple[str, str]]:
    """What a host's files are not, as (file, what is wrong with it); empty when all is as it was compiled.

    Installed units are compared on the host itself, which names them among its problems.
    """
    if report.current != generation.hash:
        return [("etc", f"it points to {(report.current or 'nothing')[:12]}, not to {generation.hash[:12]}")]
    expected = {name: _sha(data) for name, data in generation.host_files(report.host).items()}
    held = {name: sha for name, sha in report.files.items() if not name.startswith(_INSTALLED)}
    found = []
    for name in sorted(expected.keys() | held.keys()):
        if name not in held:
            found.append((name, "it is missing"))
        elif name not in expected:
            found.append((name, "nobody compiled it"))
        elif held[name] != expected[name]:
            found.append((name, "its content was changed"))
    return found


def notes(answers: Answers) -> list[str]:
    """What did not go quite as it should, without being a failure."""
    return [
        f"{host}: {note}"
        for host, answer in answers.items()
        if isinstance(answer, Report)
        for note in answer.detail.get("notes", ())
    ]


def failures(answers: Answers) -> list[str]:
    """Each host that did not do it, or has a problem, in words."""
    found = []
    for host, answer in answers.items():
        if isinstance(answer, HostError):
            found.append(str(answer))
        else:
            found += [f"{host}: {problem}" for problem in answer.problems]
    return [plain(text) for text in found]


def plain(text: str) -> str:
    """Without colours and other control characters: it quotes logs, and ends up in rows and on terminals."""
    return "".join(c for c in _ESCAPE.sub("", text) if c == "\n" or c.isprintable())


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
