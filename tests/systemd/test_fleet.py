"""Two hosts with sshd: one asks, both do; and what an ssh that breaks looks like."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cortexd.deploy.host.wire import encode_order
from tests.systemd.conftest import Boot
from tests.systemd.fake import STEADY, Generation
from tests.systemd.fleet import serve_ssh
from tests.systemd.machine import PREFIX, Machine

A = "neuron@a.service"
FIRST = Generation({A: ("1", STEADY)})
# What apply does, as a program on the hub: orders on standard input, what each host said on standard output.
_ASK = """
import json, sys
from cortexd.deploy.host.protocol import HostError
from cortexd.deploy.host.wire import decode_order, encode_report
from cortexd.deploy.reach.everywhere import ask_all
from cortexd.deploy.reach.local import LocalChannel
from cortexd.deploy.reach.ssh import SshChannel
pairs = []
for line in sys.stdin.buffer.read().splitlines():
    order = decode_order(line)
    far = SshChannel(order.host, sys.argv[1], '/opt/cortexd')
    pairs.append((LocalChannel('hub') if order.host == 'hub' else far, order))
said = {}
for host, answer in ask_all(pairs).items():
    said[host] = str(answer) if isinstance(answer, HostError) else json.loads(encode_report(answer))
print(json.dumps(said))
"""


def ask_both(hub: Machine, action: str, target: str = "root@far", generation: Generation = FIRST) -> dict[str, object]:
    orders = b"".join(encode_order(generation.order(action, host=host)) for host in ("hub", "far"))  # type: ignore[arg-type]
    done = hub.run([f"{PREFIX}/bin/python", "-c", _ASK, target], input=orders.decode())
    return dict(json.loads(done.stdout))


def test_one_command_prepares_and_activates_both_hosts(boot: Boot) -> None:
    hub, far = boot("hub", "far")

    for action in ("prepare", "activate", "ready", "observe"):
        said = ask_both(hub, action)
        assert {host: answer["problems"] for host, answer in said.items()} == {"hub": [], "far": []}  # type: ignore[index]

    assert [machine.show(A, "ActiveState") for machine in (hub, far)] == ["active", "active"]
    assert far.run(["readlink", "/var/lib/cortexd/etc"]).stdout.strip() == f"generations/{FIRST.hash}"


def test_a_host_that_fails_hides_no_other_and_says_what_to_do(boot: Boot) -> None:
    hub, far = boot("hub", "far")

    def said(target: str) -> str:
        answers = ask_both(hub, "prepare", target)
        assert isinstance(answers["hub"], dict)
        return str(answers["far"])

    far.run(["useradd", "--create-home", "ada"])
    assert "far (ssh ada@far)" in said("ada@far") and "ssh-copy-id ada@far" in said("ada@far")
    assert "start sshd there, or correct the port" in said("ssh://root@far:2222")
    assert "correct `ssh` of the host in fleet.toml" in said("root@nowhere")
    hub.run(["mv", "/root/.ssh/known_hosts", "/root/.ssh/known_hosts.away"])
    assert "run `ssh root@far` once by hand" in said("root@far")
    hub.run(["mv", "/root/.ssh/known_hosts.away", "/root/.ssh/known_hosts"])
    far.run(["mv", f"{PREFIX}/bin/cortexd", f"{PREFIX}/bin/away"])
    assert "/opt/cortexd/bin/cortexd is not there: install cortexd" in said("root@far")


def test_an_ssh_that_is_killed_under_way_is_an_error_and_the_order_can_be_given_again(boot: Boot) -> None:
    hub, far = boot("hub", "far")
    slow = Generation({A: ("1", "sleep 1.5; " + STEADY)})
    ask_both(hub, "prepare", generation=slow)
    killer = subprocess.Popen(hub.command(["sh", "-c", "until pkill -9 -x ssh; do sleep 0.05; done; sleep 0.1"]))

    broken = ask_both(hub, "activate", generation=slow)
    killer.wait(20)
    again = ask_both(hub, "activate", generation=slow)

    assert isinstance(broken["hub"], dict)
    assert "far (ssh root@far): ssh ended by a signal" in str(broken["far"])
    assert again["far"]["problems"] == []  # type: ignore[index]
    assert far.show(A, "ActiveState") == "active"


def test_without_root_over_there_system_mode_says_so(boot: Boot) -> None:
    hub, far = boot("hub", "far")
    far.run(["useradd", "--create-home", "ada"])
    serve_ssh(hub, far, "ada")

    said = ask_both(hub, "prepare", "ada@far")

    assert "needs root" in str(said["far"])
    assert not Path(far.path("/var/lib/cortexd/generations")).exists()
