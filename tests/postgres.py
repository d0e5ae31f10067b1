"""A PostgreSQL server for tests: started once, on a socket in a folder of its own, as a user without privileges."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

SETTINGS = {"listen_addresses": "", "fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
_numbers = count(1)


class NoServer(Exception):
    """No server can be started here; the message says why."""


def binaries() -> Path:
    """The folder with initdb and postgres."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin")]
    for place in [Path(found).parent for name in ("postgres",) if (found := shutil.which(name))] + places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise NoServer("neither in PATH nor in /usr/lib/postgresql is there an initdb")


def user() -> dict[str, Any]:
    """Whom to run as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
    raise NoServer("there is no user postgres or nobody to run it as")


@contextmanager
def server() -> Iterator[str]:
    """The URL of a running server, without a database's name. Raises NoServer."""
    place, who = binaries(), user()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not below pytest's: others may not enter that
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        data = folder / "data"
        command = [place / "initdb", "-D", data, "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **who)
        if made.returncode:
            raise NoServer(f"initdb: {(made.stderr or made.stdout).strip().splitlines()[-1]}")
        options = [part for key, value in SETTINGS.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [place / "postgres", "-D", data, "-k", folder, *options],
                cwd=folder,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_tests,
                **who,
            )
        try:
            url = f"postgresql+psycopg://tests@/{{}}?host={folder}"
            _wait(url.format("postgres"), process, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_tests() -> None:
    """Also when the tests are killed, the server goes with them (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url)
    deadline = time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"postgres did not start: {log.read_text()[-500:]}") from None
            time.sleep(0.1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A server; skips with the reason where none can be had."""
    pytest.importorskip("psycopg")
    try:
        with server() as url:
            yield url
    except NoServer as e:
        pytest.skip(f"no PostgreSQL here: {e}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind, gone after the test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    url = request.getfixturevalue("postgres")
    name = f"test{next(_numbers)}"
    admin = create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.format(name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
