"""Which generations were live, and which of them a rollback leads to."""

from __future__ import annotations

from collections.abc import Sequence

from cortexd.deploy import database, rows
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import load_archived
from cortexd.deploy.rows import Switched
from cortexd.deploy.site import Site
from cortexd.settings import database_url, load_settings


def live_url(site: Site) -> str:
    """The database of what was applied: as it was compiled, else as control.toml says now. Raises SettingsError."""
    etc = site.folder / "etc"
    try:
        return database.url_of(load_archived(site, etc.readlink().name), site)
    except (OSError, ApplyError):
        return database_url(load_settings(etc / "control.toml").database.url, site.folder)


def read_history(site: Site) -> list[Switched]:
    """Every switch, the oldest first. Raises SettingsError, ApplyError."""
    url = live_url(site)
    with database.sentences(url):
        return database.read(url, rows.history, [])


def way_back(history: Sequence[Switched]) -> list[str]:
    """The generations that a rollback can lead to, the next one first: like undo, so two rollbacks go two back.

    An apply that failed is no step of it: it went back by itself.
    """
    done: list[str] = []
    for entry in history:
        if entry.state == "failed" or entry.kind == "return":
            continue
        if entry.kind == "rollback" and entry.generation in done:
            while done[-1] != entry.generation:
                done.pop()
        else:
            done.append(entry.generation)
    if history and done and done[-1] == history[-1].generation:
        done.pop()
    return done[::-1]


def target(history: Sequence[Switched], back: int, to: str | None) -> str:
    """The generation ``back`` applies before the live one, or that whose hash begins with ``to``. Raises ApplyError."""
    if not history:
        raise ApplyError("nothing was applied yet, so there is nothing to go back to")
    if to is not None:
        known = sorted({entry.generation for entry in history if entry.generation.startswith(to.lower())})
        if len(known) != 1:
            raise ApplyError(
                f"{to} begins the hash of {'no' if not known else len(known)} applied generation"
                f"{'s: name more of it' if known else '; `cortexd history` lists them'}"
            )
        return known[0]
    choices = way_back(history)
    if back > len(choices):
        raise ApplyError(
            f"there {'is' if len(choices) == 1 else 'are'} {len(choices) or 'no'} earlier "
            f"appl{'y' if len(choices) == 1 else 'ies'} to go back to, not {back}; see `cortexd history`"
        )
    return choices[back - 1]
