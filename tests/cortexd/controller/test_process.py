"""The controller as a process: it stops on SIGTERM, refuses gevent and a second controller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cortexd.models import Base
from cortexd.store.connect import connect
from tests.cortexd.manager import Manager


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "control.toml").write_text("[controller]\npoll_interval_s = 0.5\n")
    engine = connect(f"sqlite:///{tmp_path / 'state.db'}")
    Base.metadata.create_all(engine)
    engine.dispose()
    return tmp_path


def command(state_dir: Path) -> list[str]:
    return [sys.executable, "-m", "cortexd", "controller", "--state-dir", str(state_dir)]


def test_sigterm_ends_it_cleanly_and_a_second_one_is_refused(state_dir: Path) -> None:
    first = subprocess.Popen(command(state_dir), stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        while not (state_dir / "controller.lock").exists() or not (state_dir / "controller.lock").read_text():
            assert first.poll() is None
        second = subprocess.run(command(state_dir), capture_output=True, text=True, timeout=15)
        assert second.returncode == 1
        assert f"process {first.pid}" in second.stderr and "Traceback" not in second.stderr
        first.send_signal(signal.SIGTERM)
        _, errors = first.communicate(timeout=10)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 0, errors
    assert "controller stopped" in errors and "Traceback" not in errors


def test_it_refuses_to_run_under_gevent() -> None:
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "from pathlib import Path\n"
        "from cortexd.controller import ControllerError, run\n"
        "from cortexd.settings import ControlSettings\n"
        "try: run(ControlSettings(), Path('.'))\n"
        "except ControllerError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert "does not run under gevent" in done.stdout, done.stderr


def test_it_is_ready_after_a_round_with_the_database_and_feeds_the_watchdog_without_one(state_dir: Path) -> None:
    manager = Manager(state_dir)
    process = subprocess.Popen(command(state_dir), stderr=subprocess.DEVNULL, env=os.environ | manager.environment())
    try:
        heard = list(manager.wait_for("READY=1"))
        with connect(f"sqlite:///{state_dir / 'state.db'}").begin() as connection:
            connection.exec_driver_sql("DROP TABLE live")
        manager.wait_for("STATUS=the database does not answer")
        manager.heard.clear()
        manager.wait_for("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    finally:
        process.kill()
        process.wait()

    assert heard[:2] == ["READY=1", "STATUS=watching the fleet"]
    assert manager.listen()[-2:] == ["STOPPING=1", "STATUS=stopping"]
    manager.close()
