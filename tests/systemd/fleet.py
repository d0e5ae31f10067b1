"""Machines joined to a fleet: the first one reaches every other one over a cable, by name, with ssh and a key."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from tests.systemd.machine import Machine

_SSHD = """[Unit]
Description=sshd for the tests
[Service]
RuntimeDirectory=sshd
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/sshd_test
"""
_SSHD_CONFIG = """HostKey /etc/ssh/test_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
"""


def why_no_ssh() -> str | None:
    """Why there is no ssh to test with, None if there is."""
    for program in ("/usr/sbin/sshd", "ssh", "ssh-keygen", "ip"):
        if shutil.which(program) is None:
            return f"needs {program} (openssh-server, openssh-client, iproute2)"
    return None


def address(number: int) -> str:
    """Of the machine at that place in the fleet; 0 is the hub."""
    return f"10.77.0.{number + 1}"


def join(machines: Sequence[Machine]) -> None:
    """Lay a cable (veth) from the first machine to each of the others. Nothing of it is seen outside of them."""
    hub = machines[0]
    names = "".join(f"{address(n)} {machine.name}\n" for n, machine in enumerate(machines))
    for machine in machines:
        machine.write("/etc/hosts", f"127.0.0.1 localhost\n{names}")
    for number, spoke in enumerate(machines[1:], 1):
        # only the network namespace is entered, so that the other one's PID means what it means here
        _outside(hub, ["ip", "link", "add", f"to{number}", "type", "veth", "peer", "eth0", "netns", str(spoke.pid)])
        for machine, device, own, other in (
            (hub, f"to{number}", address(0), address(number)),
            (spoke, "eth0", address(number), address(0)),
        ):
            machine.run(["ip", "address", "add", own, "peer", other, "dev", device])
            machine.run(["ip", "link", "set", device, "up"])
    for spoke in machines[1:]:
        serve_ssh(hub, spoke)


def serve_ssh(client: Machine, server: Machine, user: str = "root") -> None:
    """Start sshd on ``server`` and let root of ``client`` log in there as ``user``, each other's keys known."""
    key = "/root/.ssh/id_ed25519"
    if not client.path(key).exists():
        client.run(["mkdir", "-m", "0700", "-p", "/root/.ssh"])
        client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    if not server.path("/etc/ssh/test_host_key").exists():
        server.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/test_host_key"])
        server.write("/etc/ssh/sshd_test", _SSHD_CONFIG)
        server.write("/etc/systemd/system/test-sshd.service", _SSHD)
        server.run(["systemctl", "daemon-reload"])
        server.run(["systemctl", "start", "test-sshd"])
        known = f"{server.name} {server.read('/etc/ssh/test_host_key.pub')}"
        client.run(["tee", "-a", "/root/.ssh/known_hosts"], input=known)
    home = "/root" if user == "root" else f"/home/{user}"
    server.run(["usermod", "-p", "*", user])  # no password, and not locked
    server.run(["install", "-d", "-m", "0700", "-o", user, "-g", user, f"{home}/.ssh"])
    server.run(["tee", "-a", f"{home}/.ssh/authorized_keys"], input=client.read(f"{key}.pub"))
    server.run(["chown", f"{user}:", f"{home}/.ssh/authorized_keys"])


def _outside(machine: Machine, arguments: Sequence[str]) -> None:
    subprocess.run(["nsenter", "-t", str(machine.pid), "-n", *arguments], check=True, capture_output=True)
