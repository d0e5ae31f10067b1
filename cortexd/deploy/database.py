"""The control database of a generation: which one it is, what is live in it, and one transaction to change that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from cortexd.deploy.errors import ApplyError
from cortexd.deploy.generation import CompiledGeneration
from cortexd.deploy.migrate import exclusive, up_to_date, upgrade
from cortexd.deploy.rows import NEVER, Situation, situation
from cortexd.deploy.site import Site
from cortexd.settings import SettingsError, database_url, load_settings
from cortexd.store.connect import connect

T = TypeVar("T")


class _Undo(Exception):
    """Raised to end a transaction without a trace."""


def url_of(generation: CompiledGeneration, site: Site) -> str:
    """The database that the generation's own control.toml names. Raises ApplyError."""
    home = generation.host_files(generation.gateway_host)
    if "control.toml" not in home:
        raise ApplyError(f"{generation.folder} has no hosts/{generation.gateway_host}/control.toml; compile again")
    with tempfile.TemporaryDirectory() as folder:  # the bytes that were verified, not what the disk holds by now
        path = Path(folder) / "control.toml"
        path.write_bytes(home["control.toml"])
        try:
            return database_url(load_settings(path).database.url, site.folder)
        except SettingsError as e:
            raise ApplyError(f"{generation.folder}: {e}; compile again with this version of cortexd") from e


def look(url: str) -> Situation:
    """What is live; changes nothing, creates nothing. Raises ApplyError, DBAPIError."""
    return read(url, situation, NEVER)


def read(url: str, query: Callable[[Connection], T], otherwise: T) -> T:
    """Ask a database, ``otherwise`` when it is not there yet. One that waits for migrations is read as it will be."""
    file = _sqlite_file(url)
    if file is not None and not file.exists():
        return otherwise
    engine = connect(url)
    try:
        with engine.connect() as connection:
            if up_to_date(connection):
                return query(connection)
        found = otherwise
        try:
            with exclusive(engine) as connection:
                upgrade(connection)
                found = query(connection)
                raise _Undo
        except _Undo:
            return found
    finally:
        engine.dispose()


def transact(url: str, change: Callable[[Connection], T]) -> T:
    """Run ``change`` in one transaction that covers DDL too."""
    make_file(url)
    engine = connect(url)
    try:
        with exclusive(engine) as connection:
            return change(connection)
    finally:
        engine.dispose()


def make_file(url: str) -> None:
    """A new SQLite file belongs to whom its folder belongs to: root makes it, daemons write it. Raises ApplyError."""
    file = _sqlite_file(url)
    if file is None or os.geteuid() != 0:
        return
    owner = file.parent.stat()
    if owner.st_uid != 0 and file.is_symlink():
        raise ApplyError(f"{file} is a link in a folder that is not root's, so root does not write through it")
    if owner.st_uid != 0 and not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        try:
            os.fchown(handle, owner.st_uid, owner.st_gid)
        finally:
            os.close(handle)


@contextmanager
def sentences(url: str) -> Iterator[None]:
    """Turn what a database or the disk can say into an ApplyError."""
    try:
        yield
    except OSError as e:
        raise ApplyError(f"{e.filename or 'the disk'}: {e.strerror or e}") from e
    except ModuleNotFoundError as e:
        raise ApplyError(
            f"{e.name} is not installed, which this database needs: pip install 'cortexd[postgres]'"
        ) from e
    except DBAPIError as e:
        where = make_url(url).render_as_string(hide_password=True)
        raise ApplyError(f"the database {where} cannot be used: {e.orig}") from e


def _sqlite_file(url: str) -> Path | None:
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
