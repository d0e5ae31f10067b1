"""A folder with two files, the artifacts they name, a way to compile variants of them, and hosts that are folders."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from compiler.pipeline import compile_files
from cortexd.deploy.host.agent import carry_out
from cortexd.deploy.host.protocol import Channel, HostError, Order, Report
from cortexd.deploy.reach.local import LocalChannel
from cortexd.deploy.settings import Settings
from cortexd.deploy.site import Site, files_site
from cortexd.settings import load_settings
from tests.compiler.artifacts import make_all

FLEET = """
[fleet]
name = "lab"
[gateway]
workers = WORKERS
[[hosts]]
name = "here"
address = "127.0.0.1"
[[neurons]]
name = "local"
host = "here"
endpoint = "http://127.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
"""
THERE = """
[[hosts]]
name = "there"
address = "127.0.0.2"
ssh = "there.example"
[[neurons]]
name = "far"
host = "there"
endpoint = "http://127.0.0.2:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
"""
MODELS = """
[[models]]
id = "chat"
source = "path:artifacts/chat"
task = "chat"
[aliases]
default = "chat"
"""


@dataclass
class Place:
    """``var`` is the state directory of a fleet whose files lie in ``folder``."""

    folder: Path

    @property
    def var(self) -> Path:
        return self.folder / "var"

    @property
    def site(self) -> Site:
        return files_site(self.var)

    def compile(self, workers: int = 2, models: str = MODELS, fleet: str = FLEET) -> Path:
        """The folder of a generation."""
        (self.folder / "fleet.toml").write_text(fleet.replace("WORKERS", str(workers)))
        (self.folder / "models.toml").write_text(models)
        outcome = compile_files(self.folder / "fleet.toml", self.folder / "models.toml", self.folder / "build")
        assert outcome.emitted is not None, outcome.text()
        return outcome.emitted.folder


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_all(tmp_path)
    return Place(tmp_path)


@dataclass
class Hosts:
    """Channels whose far hosts are folders beside the state directory, carried out by the real agent.

    ``trouble``: (host, action) -> what goes wrong. An exception is raised instead of the action, text is a problem
    that the report names after it. A third entry, a generation, limits it to that one. ``asked``: what was ordered.
    """

    folder: Path
    trouble: dict[tuple[str, ...], str | Exception] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def connect(self, host: str, ssh: str | None, facts: Any, site: Site) -> Channel:
        return Folder(self, host, ssh)

    def state(self, host: str) -> Path:
        return self.folder / f"host-{host}"

    def settings(self, **more: Any) -> Settings:
        return Settings(connect=self.connect, timeout_s=5, **more)


@dataclass(frozen=True)
class Folder:
    hosts: Hosts
    host: str
    ssh: str | None

    def ask(self, order: Order) -> Report:
        self.hosts.asked.append((self.host, order.action))
        keys = ((self.host, order.action, order.generation), (self.host, order.action))
        wrong = next((self.hosts.trouble[key] for key in keys if key in self.hosts.trouble), None)
        if isinstance(wrong, Exception):
            raise wrong
        if self.ssh is None:
            report = LocalChannel(self.host).ask(order)
        else:
            report = carry_out(replace(order, state_dir=str(self.hosts.state(self.host))))
        return replace(report, problems=(*report.problems, wrong)) if wrong else report


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def unreachable(host: str) -> HostError:
    return HostError(f"{host} (ssh there.example): connection refused: start sshd there")


def query(var: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(var / "state.db")) as db:
        return db.execute(sql).fetchall()


def live(var: Path) -> str | None:
    """The current generation, None where there is none yet."""
    if not (var / "state.db").exists():
        return None
    if not query(var, "SELECT 1 FROM sqlite_master WHERE name = 'live'"):
        return None
    found = query(var, "SELECT generation FROM live")
    return found[0][0] if found else None


def workers(var: Path) -> int | None:
    path = var / "etc" / "control.toml"
    return load_settings(path).gateway.workers if path.exists() else None


def current(state: Path) -> str | None:
    """The generation that a host's files are of."""
    return (state / "etc").readlink().name if (state / "etc").is_symlink() else None


def files(state: Path) -> dict[str, bytes]:
    """What a host has."""
    root = (state / "etc").resolve()
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def compiled(folder: Path, host: str) -> dict[str, bytes]:
    """What a host should have."""
    root = folder / "hosts" / host
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def state(var: Path) -> dict[str, Any]:
    """Everything that an apply could have changed."""
    tables = [row[0] for row in query(var, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    return {"etc": (var / "etc").readlink(), "files": files(var)} | {
        table: query(var, f'SELECT * FROM "{table}"') for table in tables
    }


def desired(var: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The live rows of every desired table."""
    tables = ("host", "neuron", "device", "model", "alias", "placement", "account", "key")
    chosen = "(SELECT generation FROM live)"
    found = {t: query(var, f'SELECT * FROM "{t}" WHERE generation = {chosen} ORDER BY 2, 3') for t in tables}
    return found | {"generation": query(var, f"SELECT * FROM generation WHERE hash = {chosen}")}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> int:
    """Do it in a child process; the signal that ended it, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
