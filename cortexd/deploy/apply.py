"""``apply``: verify, migrate, stage, commit, switch. Killed anywhere, the next one completes it.

The files are staged before the rows change and switched after them, so whoever reads sees a whole generation of each.
Only between commit and switch are they of different ones; then ``live`` is new, and running apply again switches.
"""

from __future__ import annotations

import fcntl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from compiler.plan import Change, plan
from cortexd.deploy import files, rows
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.generation import CompiledGeneration, load_generation
from cortexd.deploy.migrate import exclusive, upgrade
from cortexd.settings import SettingsError, database_url, load_settings
from cortexd.store.connect import connect


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done. ``changes`` are those of the rows; ``elsewhere`` names hosts whose files are not put there yet."""

    generation: str
    previous: str | None
    version: int | None
    migrated: bool
    changes: tuple[Change, ...]
    files_changed: bool
    elsewhere: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """It was all there already."""
        return self.version is None and not self.migrated and not self.files_changed


def apply(folder: Path, state_dir: Path, clock: Callable[[], float] = time.time) -> Applied:
    """Make the generation in ``folder`` the live one of ``state_dir``. Raises ApplyError; then nothing has changed.

    ``clock`` gives Unix seconds for the history.
    """
    generation = load_generation(folder)
    home = generation.host_files(generation.gateway_host)
    url = _database_url(generation, home, state_dir)
    try:
        state_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        with _lock(state_dir):
            files.check_place(state_dir)
            return _apply(generation, home, url, state_dir, clock)
    except OSError as e:
        raise ApplyError(f"{e.filename or state_dir}: {e.strerror or e}") from e
    except ModuleNotFoundError as e:
        raise ApplyError(
            f"{e.name} is not installed, which this database needs: pip install 'cortexd[postgres]'"
        ) from e
    except DBAPIError as e:
        where = make_url(url).render_as_string(hide_password=True)
        raise ApplyError(f"the database {where} cannot be used: {e.orig}") from e


def _apply(
    generation: CompiledGeneration, home: dict[str, bytes], url: str, state_dir: Path, clock: Callable[[], float]
) -> Applied:
    settled = files.in_place(state_dir, generation.hash, home)
    files.stage(state_dir, generation.hash, home)
    engine = connect(url)
    try:
        with exclusive(engine) as connection:
            migrated = upgrade(connection)
            previous, before = rows.current(connection)
            changes = plan(generation.tables, before).changes
            version = None if previous == generation.hash else rows.make_current(connection, generation, clock())
    finally:
        engine.dispose()
    if not settled:
        files.switch(state_dir, generation.hash)
    elsewhere = tuple(host for host in generation.hosts if host != generation.gateway_host)
    return Applied(generation.hash, previous, version, migrated, changes, not settled, elsewhere)


def _database_url(generation: CompiledGeneration, home: dict[str, bytes], state_dir: Path) -> str:
    if "control.toml" not in home:
        raise ApplyError(f"{generation.folder} has no hosts/{generation.gateway_host}/control.toml; compile again")
    with tempfile.TemporaryDirectory() as folder:  # the bytes that were verified, not what the disk holds by now
        path = Path(folder) / "control.toml"
        path.write_bytes(home["control.toml"])
        try:
            return database_url(load_settings(path).database.url, state_dir)
        except SettingsError as e:
            raise ApplyError(f"{generation.folder}: {e}; compile again with this version of cortexd") from e


@contextmanager
def _lock(state_dir: Path) -> Iterator[None]:
    """One apply at a time; the kernel lets go of it when the process ends, however it ends."""
    with (state_dir / ".apply.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ApplyError(f"another `cortexd apply` is at work on {state_dir}; wait for it") from None
        yield
