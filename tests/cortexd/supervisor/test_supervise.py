"""Starting, restarting and stopping real processes; none may be left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("driver.py")
ROOT = Path(__file__).resolve().parents[3]
SLEEPER = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()}\\n'); print('hello'); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPER
# a master whose worker lives on when the master is killed
MASTER = "import subprocess,sys; p = subprocess.Popen([sys.executable,'-c',sys.argv[2],sys.argv[1]]);" + SLEEPER


class Run:
    """The driver in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.seen: set[int] = set()

    def pid_file(self, name: str) -> Path:
        return self.folder / f"{name}.pids"

    def python(self, name: str, code: str, *more: str) -> list[str]:
        return [sys.executable, "-c", code, str(self.pid_file(name)), *more]

    def start(self, programs: dict[str, list[str]], *, ready: bool = True, **spec: Any) -> subprocess.Popen[str]:
        flag = self.folder / "ready"
        if ready:
            flag.touch()
        (self.folder / "spec.json").write_text(json.dumps({"programs": programs, "ready": str(flag), **spec}))
        out = (self.folder / "out").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.folder / "spec.json")],
            stdout=out, stderr=out, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return self.process

    def output(self) -> str:
        return (self.folder / "out").read_text()

    def pids(self, name: str) -> list[int]:
        path = self.pid_file(name)
        found = [int(line) for line in path.read_text().split()] if path.exists() else []
        self.seen.update(found)
        return found

    def alive(self) -> list[int]:
        return [pid for pid in self.seen if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()
    for pid in made.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_lines_are_prefixed_and_one_signal_stops_everything(run: Run) -> None:
    process = run.start({"gateway": run.python("g", SLEEPER), "neuron a": run.python("n", SLEEPER)})
    until(lambda: run.pids("g") and run.pids("n") and "READY" in run.output())
    until(lambda: "gateway  | hello" in run.output() and "neuron a | hello" in run.output())

    process.send_signal(signal.SIGINT)

    assert process.wait(10) == 0
    assert run.alive() == []
    assert "stopped" in run.output() and "Traceback" not in run.output()


def test_a_second_signal_kills_what_does_not_listen(run: Run) -> None:
    process = run.start({"gateway": run.python("g", STUBBORN), "neuron a": run.python("n", STUBBORN)})
    until(lambda: run.pids("g") and run.pids("n") and "READY" in run.output())

    process.send_signal(signal.SIGINT)
    until(lambda: "stopping" in run.output())
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)

    assert process.wait(3) == 0
    assert run.alive() == []


def test_a_program_that_dies_is_started_again_and_its_workers_go_with_it(run: Run) -> None:
    process = run.start({"master": run.python("m", MASTER, SLEEPER)})
    until(lambda: len(run.pids("m")) == 2 and "READY" in run.output())
    first = run.pids("m")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (master,) = [int(pid) for pid in children]

    os.kill(master, signal.SIGKILL)

    until(lambda: len(run.pids("m")) == 4)
    assert [pid for pid in first if _alive(pid)] == []
    assert "was ended by SIGKILL; starting again in 0.5 s" in run.output()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert run.alive() == []


def test_children_end_when_the_supervisor_is_killed(run: Run) -> None:
    process = run.start({"gateway": run.python("g", SLEEPER), "neuron a": run.python("n", SLEEPER)})
    until(lambda: run.pids("g") and run.pids("n") and "READY" in run.output())

    process.kill()
    process.wait()

    until(lambda: run.alive() == [], 5)


def test_a_program_that_keeps_ending_before_the_fleet_serves_is_an_error(run: Run) -> None:
    bad = [sys.executable, "-c", "import sys; print('no such key'); sys.exit(3)"]
    process = run.start({"neuron a": bad, "gateway": run.python("g", SLEEPER)}, ready=False)

    assert process.wait(15) == 1
    run.pids("g")
    assert run.alive() == []
    assert "neuron a | no such key" in run.output()
    assert "UpError: neuron a exited with status 3 3 times" in run.output()


def test_a_fleet_that_never_serves_is_an_error_after_the_timeout(run: Run) -> None:
    process = run.start({"gateway": run.python("g", SLEEPER)}, ready=False, timeout=1)

    assert process.wait(10) == 1
    run.pids("g")
    assert run.alive() == []
    assert "UpError: not ready after 1 s: a file" in run.output()


def test_a_command_that_does_not_exist_is_said_and_not_a_traceback(run: Run) -> None:
    process = run.start({"gateway": ["/no/such/program"]}, ready=False)

    assert process.wait(15) == 1
    assert "cannot start: No such file" in run.output() and "Traceback" not in run.output()
