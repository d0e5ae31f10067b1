"""The ssh channel against a stand-in for the client: what is called, and what each failure says."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from pathlib import Path

import pytest

from cortexd import __version__
from cortexd.deploy.host.protocol import HostError, Order
from cortexd.deploy.reach import ssh
from cortexd.deploy.reach.local import LocalChannel
from cortexd.deploy.reach.ssh import SshChannel

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of ssh; the tests fill it."""
    path = tmp_path / "ssh client"
    monkeypatch.setenv("CORTEXD_SSH", f"/bin/sh {shlex.quote(str(path))}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return path


def order_for(state: Path, action: str = "prepare") -> Order:
    return Order(action, "far", "files", str(state), "aa11", files={"x": b"\x00\n"})  # type: ignore[arg-type]


def failing(client: Path, status: int, said: str) -> str:
    client.write_text(f"cat >/dev/null; echo {shlex.quote(said)} >&2; exit {status}\n")
    with pytest.raises(HostError) as caught:
        SshChannel("far", "root@far.lab", "/opt/cortexd").ask(order_for(Path("/nowhere")))
    return str(caught.value)


def test_an_order_is_carried_out_by_the_program_over_there(client: Path, tmp_path: Path) -> None:
    # the client runs what it was asked to run, as sshd would: by a shell
    client.write_text(
        f'for last; do :; done; echo "$@" > {shlex.quote(str(tmp_path / "args"))}\n'
        f'set -- $last; exec {sys.executable} -m cortexd "$2" "$3"\n'
    )

    report = SshChannel("far", "root@far.lab", "/opt/cortexd").ask(order_for(tmp_path / "state"))

    assert report.host == "far"
    assert (tmp_path / "state/generations/aa11/x").read_bytes() == b"\x00\n"
    args = (tmp_path / "args").read_text()
    assert "-o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10" in args
    assert args.strip().endswith("-- root@far.lab /opt/cortexd/bin/cortexd host prepare")


def test_it_does_what_the_local_channel_does(client: Path, tmp_path: Path) -> None:
    client.write_text(f'for last; do :; done; set -- $last; exec {sys.executable} -m cortexd "$2" "$3"\n')
    far = SshChannel("far", "far", "/opt/cortexd")
    near = LocalChannel("far")

    for action in ("prepare", "activate", "ready", "observe", "prune"):
        assert far.ask(order_for(tmp_path / "far", action)) == near.ask(order_for(tmp_path / "near", action))


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("box", "-T -- box"),
        ("ops@box", "-T -- ops@box"),
        ("ssh://ops@box:2222", "-T -p 2222 -- ops@box"),
        ("ssh://box", "-T -- box"),
        ("ssh://[::1]:22", "-T -p 22 -- ::1"),
    ],
)
def test_targets(target: str, end: str) -> None:
    command = SshChannel("far", target, "/opt/cortexd")._command(order_for(Path("/x")))

    assert " ".join(command[:-1]).endswith(end)


def test_a_prefix_with_a_space_stays_one_word() -> None:
    command = SshChannel("far", "box", "/opt/my cortexd/")._command(order_for(Path("/x")))

    assert command[-1] == "'/opt/my cortexd/bin/cortexd' host prepare"


@pytest.mark.parametrize(
    ("status", "said", "remedy"),
    [
        (255, "Host key verification failed.", "run `ssh root@far.lab` once by hand"),
        (255, "root@far.lab: Permission denied (publickey).", "ssh-copy-id root@far.lab"),
        (255, "ssh: Could not resolve hostname far.lab", "correct `ssh` of the host in fleet.toml"),
        (255, "ssh: connect to host far port 22: Connection refused", "start sshd there"),
        (255, "ssh: connect to host far port 22: Connection timed out", "is the machine on"),
        (127, "bash: /opt/cortexd/bin/cortexd: No such file or directory", f"install cortexd {__version__} into /opt"),
        (2, "Usage: cortexd [OPTIONS]\nError: No such command 'host'.", "of another release"),
        (1, "Error: far: this host has cortexd 9, the one that asks is 1: install the same release", "has cortexd 9"),
    ],
)
def test_each_failure_names_host_and_target_and_a_remedy(client: Path, status: int, said: str, remedy: str) -> None:
    message = failing(client, status, said)

    assert message.startswith("far (ssh root@far.lab): ")
    assert remedy in message
    assert "Traceback" not in message and "Error:" not in message


def test_an_answer_that_is_no_report_is_an_error(client: Path) -> None:
    assert "the answer is none of cortexd" in failing(client, 0, "").replace("\n", " ")


def test_silence_ends_at_the_bound(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "MARGIN_S", 0.3)
    client.write_text("exec sleep 60\n")
    order = Order("observe", "far", "files", "/nowhere", "aa11", timeout_s=0.0)

    started = time.monotonic()
    with pytest.raises(HostError, match="no answer to observe within"):
        SshChannel("far", "box", "/opt/cortexd").ask(order)
    assert time.monotonic() - started < 10


def test_a_killed_client_is_an_error_and_not_a_crash(client: Path) -> None:
    client.write_text("kill -9 $$\n")

    with pytest.raises(HostError, match="ssh ended by a signal"):
        SshChannel("far", "box", "/opt/cortexd").ask(order_for(Path("/nowhere")))


def test_cancel_ends_a_call_from_another_thread(client: Path) -> None:
    client.write_text("exec sleep 60\n")
    channel = SshChannel("far", "box", "/opt/cortexd")
    threading.Timer(0.3, channel.cancel).start()

    with pytest.raises(HostError):
        channel.ask(order_for(Path("/nowhere")))


def test_no_client_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEXD_SSH", "/nowhere/ssh -F x")

    with pytest.raises(HostError, match="/nowhere/ssh: No such file or directory; install the OpenSSH client"):
        SshChannel("far", "box", "/opt/cortexd").ask(order_for(Path("/nowhere")))
