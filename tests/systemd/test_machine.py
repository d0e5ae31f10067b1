"""The machines that the other tests here stand on."""

from __future__ import annotations

from pathlib import Path

from cortexd import __version__
from tests.systemd.conftest import Boot
from tests.systemd.machine import Machine


def test_a_real_systemd_runs_and_nothing_of_it_is_left_behind(boot: Boot) -> None:
    (box,) = boot("box")
    base, pid = box._base, box.pid

    assert box.run(["systemctl", "is-active", "multi-user.target"]).stdout == "active\n"
    assert box.run(["cat", "/proc/1/comm"]).stdout == "systemd\n"
    assert set(box.run(["ls", "-A", "/root", "/home"]).stdout.split()) <= {"/root:", "/home:", ".ssh"}
    box.stop()
    assert not base.exists() and not Path(f"/proc/{pid}").exists()
    assert "cortexd-box" not in Path("/proc/mounts").read_text()


def test_the_programs_of_this_checkout_are_installed_in_it(box: Machine) -> None:
    box.write("/etc/systemd/system/probe.service", _PROBE)
    box.run(["systemctl", "daemon-reload"])

    box.run(["systemctl", "start", "probe"])

    assert f"cortexd, version {__version__}" in box.journal("probe")
    assert f"neuron, version {__version__}" in box.run(["/opt/cortexd/bin/neuron", "--version"]).stdout


_PROBE = """[Service]
Type=oneshot
DynamicUser=yes
ProtectHome=yes
ProtectSystem=strict
ExecStart=/opt/cortexd/bin/cortexd --version
"""


def test_two_machines_see_each_other_and_one_logs_in_to_the_other(boot: Boot) -> None:
    hub, far = boot("hub", "far")

    done = hub.run(["ssh", "-o", "BatchMode=yes", "far", "/opt/cortexd/bin/cortexd", "--version"])

    assert done.stdout == f"cortexd, version {__version__}\n"
    assert far.run(["hostname"]).stdout == "far\n"


def test_users_namespaces_and_credentials_work_in_it(box: Machine) -> None:
    box.write("/etc/secret", "hush", mode=0o600)
    box.write("/etc/systemd/system/probe.service", _SANDBOX)
    box.run(["systemctl", "daemon-reload"])

    box.run(["systemctl", "start", "probe"])

    assert "hush" in box.journal("probe")


_SANDBOX = """[Service]
Type=oneshot
User=nobody
PrivateUsers=yes
PrivateDevices=yes
LoadCredential=secret:/etc/secret
ExecStart=/bin/sh -c 'cat $CREDENTIALS_DIRECTORY/secret'
"""
