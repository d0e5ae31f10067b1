"""``drift``: every difference between what was applied and what is there, by name, with what helps."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.plan import plan
from compiler.rows import generation_hash
from cortexd.deploy import database
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import archived, load_archived
from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.history import live_url
from cortexd.deploy.host.protocol import HostError, Report
from cortexd.deploy.hosts import Connect, connect_host, differing, hosts_of
from cortexd.deploy.neurons import ask_neurons, neuron_differences
from cortexd.deploy.planning import OBSERVE_S
from cortexd.deploy.rows import NEVER, Situation
from cortexd.deploy.site import Site


@dataclass(frozen=True, slots=True)
class Difference:
    """``kind``: apply, rows, host, file, unit or neuron; ``where`` it is, ``what`` differs, and a ``remedy``."""

    kind: str
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: {self.what}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Drift:
    """``by_hand``: hosts that cannot be looked at from here."""

    generation: str
    version: int
    differences: tuple[Difference, ...]
    by_hand: tuple[str, ...]


def drift(site: Site, connect: Connect = connect_host) -> Drift:
    """Look at rows, files, units, neurons; changes nothing. Raises SettingsError, and ApplyError if nothing is live."""
    url = live_url(site)
    with database.sentences(url):
        now = database.look(url)
    if now is NEVER or now.generation is None:
        raise ApplyError("nothing is live yet; `cortexd apply` makes it so")
    found = list(_switch(now))
    by_hand: tuple[str, ...] = ()
    try:
        generation = load_archived(site, now.generation)
    except ApplyError as e:
        found.append(Difference("file", str(archived(site, now.generation)), str(e), "compile again and apply"))
    else:
        found += _rows(now, generation)
        hosts = hosts_of(site, generation, connect=connect)
        by_hand = hosts.by_hand
        for host, answer in hosts.ask("observe", generation, timeout_s=OBSERVE_S).items():
            found += _host(host, answer, generation)
    # an image does not run
    said = ask_neurons(now.tables["neuron"], site.folder) if site.mode != "image" else {}
    for name in sorted(said):
        found += [
            Difference("neuron", name, what, remedy) for what, remedy in neuron_differences(said[name], now.tables)
        ]
    return Drift(now.generation, now.version, tuple(found), by_hand)


def _switch(now: Situation) -> list[Difference]:
    last = now.last
    if last is None or last.state == "live":
        return []
    what = f"the last {last.kind} is {last.state}" + (f": {last.error.splitlines()[0]}" if last.error else "")
    return [Difference("apply", f"version {now.version}", what, "run `cortexd apply` again")]


def _rows(now: Situation, generation: CompiledGeneration) -> list[Difference]:
    """The name of a generation is the hash of its rows and files, so a changed row cannot hide.

    Columns that a newer release has added since are not part of it.
    """
    live = {}
    for table, rows in now.tables.items():
        columns = generation.tables[table][0].keys() if generation.tables[table] else None
        live[table] = tuple({k: v for k, v in row.items() if columns is None or k in columns} for row in rows)
    if generation_hash(live, generation.files) == now.generation:
        return []
    remedy = "somebody wrote to the database: apply another generation, or restore the row"
    changes = plan(live, generation.tables).changes
    return [Difference("rows", "the database", f"since it was applied {change}", remedy) for change in changes]


def _host(host: str, answer: Report | HostError, generation: CompiledGeneration) -> list[Difference]:
    again = "run `cortexd apply` again"
    if isinstance(answer, HostError):
        return [Difference("host", host, str(answer), "its files and units are not known")]
    found = [Difference("file", f"{host}:{name}", what, again) for name, what in differing(generation, answer)]
    own = "remove it if it is not yours; apply leaves it alone"
    found += [Difference("unit", host, altered, own) for altered in answer.detail.get("altered", ())]
    return found + [Difference("unit", host, problem, again) for problem in answer.problems]
