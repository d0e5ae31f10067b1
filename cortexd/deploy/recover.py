"""What an apply that was killed had begun is finished, or dropped if it had not come to its commit.

The intent only says that somebody has to look. What is to be done follows from the database: the last switch is either
still ``applying``, then its generation is brought to all hosts, or it is not, then nothing is under way.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from cortexd.deploy import database
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.files import INTENT, forget_intent, load_archived, read_intent
from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.host.protocol import HostError
from cortexd.deploy.hosts import failures, hosts_of
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site, files_site
from cortexd.deploy.steps import FINISH, Switch, run


def recover(site: Site, settings: Settings) -> list[str]:
    """Finish or drop what was interrupted; what was done, in words. Cheap if there is nothing.

    For whoever holds the apply lock. Raises ApplyError if it cannot be told what to do. A generation that does not
    become ready is no error here: it goes back, and the words say so.
    """
    switch, note = _under_way(site, settings)
    if switch is None:
        return [note] if note else []
    settings.tell(f"finishing the interrupted {switch.kind} of {switch.generation.hash[:12]}")
    try:
        run(switch, FINISH)
    except NotReady as e:
        return [f"the last {switch.kind} was interrupted, and was finished first: {e}"]
    return [f"the last {switch.kind} was interrupted; generation {switch.generation.hash[:12]} was brought to its end"]


def recover_at_start(state_dir: Path) -> str | None:
    """The same for a daemon that starts: only where this process can do it, never failing, never waiting for an apply.

    Returns a line for the log, None if there is nothing to say.
    """
    if not (state_dir / INTENT).exists():
        return None
    again = "run `cortexd apply` again to finish it"
    try:
        with (state_dir / ".apply.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None  # it is alive, and perhaps what started us
            intent = read_intent(state_dir)
            if intent is None:
                return None
            if intent["mode"] != "files":  # units are not ours to restart
                return f"an apply was interrupted; {again}"
            return _at_start(files_site(state_dir), again)
    except (ApplyError, HostError, OSError, SQLAlchemyError) as e:
        return f"an apply was interrupted and could not be finished ({e}); {again}"


def _at_start(site: Site, again: str) -> str | None:
    settings = Settings(timeout_s=10)
    switch, note = _under_way(site, settings)
    if switch is None:
        return note
    here = (switch.hosts.here,)
    if len(switch.hosts.names) == 1:
        run(switch, FINISH)
        return f"finished the interrupted {switch.kind} of generation {switch.generation.hash[:12]}"
    for action in ("prepare", "activate"):
        failed = failures(switch.hosts.ask(action, switch.generation, only=here))
        if failed:
            return f"an apply was interrupted and could not be finished ({'; '.join(failed)}); {again}"
    return f"an apply was interrupted; this host has the files of {switch.generation.hash[:12]} now; {again}"


def _under_way(site: Site, settings: Settings) -> tuple[Switch | None, str | None]:
    """The switch that has to be finished; None and perhaps a word about it where there is none."""
    intent = read_intent(site.folder)
    if intent is None:
        return None, None
    if intent["mode"] != site.mode:
        raise ApplyError(
            f"an apply in mode {intent['mode']} was interrupted here; finish it with `cortexd apply --mode "
            f"{intent['mode']}`, or delete {site.folder / INTENT}"
        )
    try:
        wanted = load_archived(site, intent["to"])
    except ApplyError as e:
        raise ApplyError(f"an interrupted apply cannot be finished: {e}, after deleting {site.folder / INTENT}") from e
    url = database.url_of(wanted, site)
    with database.sentences(url):
        now = database.look(url)
    if now.last is None or now.last.state != "applying":
        forget_intent(site)
        dropped = now.version < int(intent.get("version", 0))
        return None, "an apply had been interrupted before it changed anything" if dropped else None
    generation = wanted if now.generation == wanted.hash else load_archived(site, now.last.generation)
    previous = _or_none(site, now.last.previous)
    hosts = hosts_of(site, generation, previous, connect=settings.connect)
    return Switch(site, url, generation, previous, now.version, now.last.kind, hosts, settings), None


def _or_none(site: Site, generation: str | None) -> CompiledGeneration | None:
    """The generation to go back to; without it there is no way back, but there is one forward."""
    try:
        return None if generation is None else load_archived(site, generation)
    except ApplyError:
        return None
