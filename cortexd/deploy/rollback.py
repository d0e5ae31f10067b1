"""``rollback``: an earlier generation, as it was kept, becomes the live one again: an apply like any other."""

from __future__ import annotations

from cortexd.deploy import database, rows
from cortexd.deploy.apply import Applied, exclusively, switch_to
from cortexd.deploy.files import load_archived
from cortexd.deploy.history import live_url, target
from cortexd.deploy.recover import recover
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site


def rollback(
    site: Site, back: int = 1, to: str | None = None, *, force: bool = False, settings: Settings | None = None
) -> Applied:
    """Go ``back`` that many applies, or to the generation whose hash begins with ``to``.

    Raises SettingsError if nothing was applied, ApplyError and NotReady as ``apply`` does.
    """
    settings = settings or Settings()
    url = live_url(site)
    with database.sentences(url), exclusively(site):
        notes = recover(site, settings)
        wanted = target(database.read(url, rows.history, []), back, to)
        return switch_to(
            load_archived(site, wanted), site, "rollback", notes, expected=None, force=force, settings=settings
        )
