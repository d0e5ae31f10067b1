"""The promises of apply on a real systemd: compile, apply, serve, change under load, go back, on two hosts too."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from tests.systemd.conftest import Boot
from tests.systemd.fleet import address
from tests.systemd.machine import PREFIX, Machine

SERVICES = ("cortexd-gateway.service", "cortexd-controller.service", "neuron@local.service")
FLEET = """
[fleet]
name = "lab"
[[hosts]]
name = "HUB"
address = "127.0.0.1"
[[neurons]]
name = "local"
host = "HUB"
endpoint = "http://127.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 4096 }]
"""
FAR = """
[[hosts]]
name = "far"
address = "ADDRESS"
ssh = "root@far"
[[neurons]]
name = "remote"
host = "far"
endpoint = "http://ADDRESS:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 4096 }]
"""
MODELS = """
[[models]]
id = "tiny-chat"
source = "builtin:tiny-chat"
task = "chat"
pinned = true
[[models]]
id = "tiny-embed"
source = "builtin:tiny-embed"
task = "embed"
"""
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Tell me a story."}]}


@dataclass
class Operator:
    """Somebody at the machine with two files."""

    machine: Machine

    def cortexd(self, *arguments: str, status: int = 0) -> str:
        """What the command says; its exit status must be that."""
        done = self.machine.run(
            ["sh", "-c", 'cd /srv && exec "$@"', "-", f"{PREFIX}/bin/cortexd", *arguments], check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def compile(self, fleet: str, models: str = MODELS) -> str:
        """The hash of the generation."""
        self.machine.write("/srv/fleet.toml", fleet.replace("HUB", self.machine.name))
        self.machine.write("/srv/models.toml", models)
        self.cortexd("compile")
        return self.machine.read("/srv/build/latest").strip()

    def pids(self) -> dict[str, str]:
        return {unit: self.machine.show(unit, "MainPID") for unit in SERVICES}

    def ask(self, **more: object) -> subprocess.CompletedProcess[str]:
        return self.machine.run(["curl", "-sS", *_chat(**more)])


def _chat(**more: object) -> list[str]:
    return [
        "-H",
        "content-type: application/json",
        "-d",
        json.dumps(CHAT | more),
        "http://127.0.0.1:31313/v1/chat/completions",
    ]


def test_from_an_empty_host_to_an_answer_a_change_under_load_and_back(box: Machine) -> None:
    operator = Operator(box)
    first = operator.compile(FLEET)
    assert "start neuron@local.service on box" in operator.cortexd("plan", status=2)
    assert f"generation {first[:12]} is live in /var/lib/cortexd" in operator.cortexd("apply")
    assert json.loads(operator.ask(max_tokens=4).stdout)["choices"][0]["finish_reason"]
    assert "no drift" in operator.cortexd("drift")
    assert "nothing to do" in operator.cortexd("plan")
    before = operator.pids()

    # a lifetime is a row: nothing restarts, and an answer that is under way is not disturbed
    stream = subprocess.Popen(
        box.command(["curl", "-sSN", *_chat(max_tokens=400, stream=True, ignore_eos=True)]), stdout=subprocess.PIPE
    )
    assert stream.stdout is not None and stream.stdout.readline().startswith(b"data:")
    operator.compile(FLEET, MODELS + "idle_ttl_s = 77\n")
    assert "no unit restarts" in operator.cortexd("plan", status=2)
    operator.cortexd("apply")
    operator.cortexd("rollback")
    rest = stream.stdout.read()
    stream.wait(30)

    assert stream.returncode == 0 and rest.rstrip().endswith(b"data: [DONE]")
    assert operator.pids() == before

    # more workers: only the gateway restarts
    operator.compile(FLEET + "[gateway]\nworkers = 3\n")
    said = operator.cortexd("apply")
    after = operator.pids()
    assert {unit for unit in SERVICES if after[unit] != before[unit]} == {"cortexd-gateway.service"}, said

    # what somebody changed by hand is named, and put right
    box.run(["systemctl", "stop", "cortexd-controller"])
    box.write("/etc/systemd/system/neuron@local.service", "[Service]\nExecStart=/bin/false\n")
    drift = operator.cortexd("drift", status=2)
    assert "cortexd-controller.service is inactive" in drift and "neuron@local.service is not what was applied" in drift
    assert "put right" in operator.cortexd("apply")
    assert "no drift" in operator.cortexd("drift")


def test_a_generation_that_does_not_become_ready_goes_back_by_itself(box: Machine) -> None:
    operator = Operator(box)
    good = operator.compile(FLEET)
    operator.cortexd("apply")
    before = operator.pids()
    box.run(
        ["sh", "-c", f"cd / && exec setsid {PREFIX}/bin/python -m http.server --bind 127.0.0.1 14141 >/dev/null 2>&1 &"]
    )
    bad = operator.compile(FLEET.replace("13131", "14141"))

    said = operator.cortexd("apply", "--timeout", "15", status=1)

    assert f"generation {bad[:12]} did not become ready, so {good[:12]} is live again" in said
    assert "neuron@local.service" in said and "14141" in said, "the journal names the address that was taken"
    after = operator.pids()
    assert {unit for unit in SERVICES if after[unit] != before[unit]} == {"neuron@local.service"}
    assert json.loads(operator.ask(max_tokens=4).stdout)["choices"]
    assert "no drift" in operator.cortexd("drift")
    history = json.loads(operator.cortexd("history", "--json"))
    assert [(e["kind"], e["state"]) for e in history] == [("apply", "live"), ("apply", "failed"), ("return", "live")]


def test_one_apply_configures_two_hosts_and_a_host_that_leaves_is_left_clean(boot: Boot) -> None:
    hub, far = boot("hub", "far")
    operator = Operator(hub)
    operator.compile(FLEET + FAR.replace("ADDRESS", address(1)))
    operator.cortexd("apply")
    assert far.show("neuron@remote.service", "ActiveState") == "active"
    assert "no drift" in operator.cortexd("drift")

    # an apply that was killed is finished by the next one, on both
    operator.compile(FLEET + FAR.replace("ADDRESS", address(1)), MODELS + "context = 256\n")
    killed = hub.run(["sh", "-c", f"cd /srv && timeout -s KILL 4 {PREFIX}/bin/cortexd apply"], check=False)
    operator.cortexd("apply")
    assert killed.returncode in (0, 137)
    assert "no drift" in operator.cortexd("drift")
    assert hub.run(["readlink", "/var/lib/cortexd/etc"]).stdout == far.run(["readlink", "/var/lib/cortexd/etc"]).stdout

    operator.compile(FLEET)
    operator.cortexd("apply")
    assert far.show("neuron@remote.service", "LoadState") == "not-found"
    operator.cortexd("rollback")
    assert far.show("neuron@remote.service", "ActiveState") == "active"
    assert "no drift" in operator.cortexd("drift")
