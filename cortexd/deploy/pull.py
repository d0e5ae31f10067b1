"""``apply --host NAME``: one host takes its part of a generation itself, where nobody can reach it over ssh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.generation import CompiledGeneration, load_generation
from cortexd.deploy.host.protocol import Action, HostError, Report
from cortexd.deploy.hosts import Hosts, differing, failures, hosts_of
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site


@dataclass(frozen=True, slots=True)
class Pulled:
    """``previous``: what this host had before. ``units``: (unit, verb)."""

    host: str
    generation: str
    previous: str | None
    nothing: bool
    units: tuple[tuple[str, str], ...]


def apply_here(folder: Path, site: Site, host: str, settings: Settings | None = None) -> Pulled:
    """Bring the files and units of ``host`` to this machine, and go back if they do not become ready. No database.

    Raises ApplyError: then this host is as it was. Raises NotReady after the way back.
    """
    settings = settings or Settings()
    generation = load_generation(folder)
    if host not in generation.hosts:
        raise ApplyError(f"{folder} has nothing for host {host}; it has {', '.join(generation.hosts)}")
    if host == generation.gateway_host:
        raise ApplyError(f"{host} is the gateway host, which needs the database too: leave --host out")
    hosts = hosts_of(site, generation, connect=settings.connect, only=host)
    seen = _ask(hosts, "observe", generation)
    if not differing(generation, seen) and not seen.problems:
        return Pulled(host, generation.hash, seen.current, True, ())
    _ask(hosts, "prepare", generation)
    settings.after("prepare")
    try:
        done = _switch(hosts, generation, settings)
    except NotReady as e:
        if seen.current is None or seen.current == generation.hash:
            raise NotReady(f"{host} is not ready, and has no earlier generation to go back to:\n  {e}") from None
        try:
            _switch(hosts, seen.current, settings)
        except NotReady as more:
            raise NotReady(f"{host} was not ready:\n  {e}\nand could not go back:\n  {more}") from None
        raise NotReady(f"{host} did not become ready and went back to {seen.current[:12]}:\n  {e}") from None
    keep = tuple(name for name in (generation.hash, seen.current) if name)
    hosts.ask("prune", generation, keep=keep)
    return Pulled(host, generation.hash, seen.current, False, done.changed)


def _switch(hosts: Hosts, generation: CompiledGeneration | str, settings: Settings) -> Report:
    answers = hosts.ask("activate", generation, timeout_s=settings.timeout_s)
    settings.after("activate")
    if not (failed := failures(answers)):
        failed = failures(hosts.ask("ready", generation, timeout_s=settings.timeout_s))
        settings.after("ready")
    if failed:
        raise NotReady("\n  ".join(failed))
    (report,) = answers.values()
    if isinstance(report, HostError):  # a failure, so it was raised above
        raise report
    return report


def _ask(hosts: Hosts, action: Action, generation: CompiledGeneration) -> Report:
    (answer,) = hosts.ask(action, generation).values()
    failed = failures({hosts.names[0]: answer}) if action == "prepare" or isinstance(answer, HostError) else []
    if failed or isinstance(answer, HostError):
        raise ApplyError("nothing was changed:\n  " + "\n  ".join(failed))
    return answer
