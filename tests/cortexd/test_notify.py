"""What is said to the service manager, and when nothing is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from cortexd.credentials import credential, token_file
from cortexd.notify import Notifier
from tests.cortexd.manager import Manager


def test_what_the_environment_names_is_taken_out_of_it(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}

    notifier = Notifier.take(environment)

    assert environment == {"A": "b"}
    assert notifier.watchdog_s == 30


def test_the_watchdog_of_another_process_is_not_fed() -> None:
    assert Notifier.take({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.take({"WATCHDOG_USEC": "5000000"}).watchdog_s is None
    assert Notifier.take({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "junk"}).watchdog_s is None


def test_a_status_is_sent_once_and_food_a_quarter_of_the_time_apart(tmp_path: Path) -> None:
    manager, now = Manager(tmp_path), [100.0]
    notifier = Notifier(manager.address, 8.0, clock=lambda: now[0])
    notifier.status("loading a")
    notifier.extend(30)
    notifier.status("loading a")
    for at in (100.0, 101.9, 102.0, 103.0, 104.0):
        now[0] = at
        notifier.feed()
    notifier.ready("serving")
    notifier.status("serving")
    notifier.stopping("bye")

    heard = manager.listen()
    manager.close()

    assert heard == [
        "STATUS=loading a", "EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1",
        "READY=1", "STATUS=serving", "STOPPING=1", "STATUS=bye",
    ]  # fmt: skip


def test_an_abstract_socket_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0cortexd-test-{os.getpid()}")
        Notifier(f"@cortexd-test-{os.getpid()}").ready("here")
        manager.settimeout(5)

        assert manager.recv(100) == b"READY=1\nSTATUS=here"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    for notifier in (Notifier(), Notifier(str(tmp_path / "gone"), 1.0)):
        notifier.ready("x")
        notifier.feed()
        notifier.stopping("y")


def test_a_credential_comes_before_the_declared_file(tmp_path: Path) -> None:
    (tmp_path / "token-gpu").write_text("t")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert credential("token-gpu", environment) == tmp_path / "token-gpu"
    assert credential("token-cpu", environment) is None
    assert credential("../token-gpu", environment) is None
    assert credential("token-gpu", {}) is None
    assert token_file("gpu", "/etc/token") == Path("/etc/token")
