"""Machines with a real systemd. Where they cannot be had, tests are skipped with the reason.

``CORTEXD_TEST_SYSTEMD=required`` makes that a failure, for places where it must not happen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.fleet import join, why_no_ssh
from tests.systemd.machine import Machine, install, why_not

Boot = Callable[..., list[Machine]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as the machines have it in /opt/cortexd."""
    _or_skip(why_not())
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def boot(installed: Path) -> Iterator[Boot]:
    """``boot("a", "b")`` gives running machines of those names, joined and with ssh when there are several."""
    started: list[Machine] = []

    def start(*names: str) -> list[Machine]:
        if len(names) > 1:
            _or_skip(why_no_ssh())
        machines = [Machine(name, installed) for name in names]
        started.extend(machines)
        for machine in machines:
            machine.wait_running()
        if len(machines) > 1:
            join(machines)
        return machines

    try:
        yield start
    finally:
        for machine in started:
            machine.stop()


@pytest.fixture
def box(boot: Boot) -> Machine:
    """One running machine."""
    return boot("box")[0]


def _or_skip(reason: str | None) -> None:
    if reason is None:
        return
    if os.environ.get("CORTEXD_TEST_SYSTEMD") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
