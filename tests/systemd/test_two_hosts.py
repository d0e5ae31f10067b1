"""Two hosts with a real systemd and ssh between them: one apply configures both, or neither."""

from __future__ import annotations

from tests.systemd.conftest import Boot
from tests.systemd.fleet import address
from tests.systemd.site import GATEWAY, Site

FLEET = f"""
[fleet]
name = "two"

[gateway]
listen = "127.0.0.1:31313"
metrics_listen = "{address(0)}:31314"

[[hosts]]
name = "hub"
address = "{address(0)}"

[[hosts]]
name = "spoke"
address = "{address(1)}"
ssh = "root@spoke"

[[neurons]]
name = "near"
host = "hub"
endpoint = "http://127.0.0.1:13131"
[[neurons.devices]]
name = "cpu-0"
kind = "cpu"
index = 0
threads = 1
memory_mb = 4096

[[neurons]]
name = "far"
host = "spoke"
endpoint = "http://{address(1)}:13131"
[[neurons.devices]]
name = "cpu-0"
kind = "cpu"
index = 0
threads = 1
memory_mb = 4096
"""
MODELS = """
[[models]]
id = "near-chat"
source = "builtin:tiny-chat"
task = "chat"
context = 4096
pinned_on = ["near"]
devices = ["near/cpu-0"]

[[models]]
id = "far-chat"
source = "builtin:tiny-chat"
task = "chat"
context = 4096
pinned_on = ["far"]
devices = ["far/cpu-0"]
"""


def test_one_apply_configures_both_hosts_or_neither(boot: Boot) -> None:
    hub, spoke = boot("hub", "spoke")
    site = Site(hub, FLEET, MODELS)

    said = site.deploy()

    assert spoke.run(["systemctl", "is-active", "neuron@far.service"]).stdout.strip() == "active", said
    assert not spoke.path("/var/lib/cortexd/state.db").exists()
    for model, neuron in (("near-chat", "near"), ("far-chat", "far")):
        assert site.ask(model)["choices"][0]["finish_reason"] == "stop"
        assert site.sql("SELECT neuron FROM usage ORDER BY started_at DESC LIMIT 1") == [[neuron]]
    site.cortexd("drift")

    # a change of one host leaves the other's processes alone
    before = site.pids(GATEWAY, "neuron@near.service"), spoke.show("neuron@far.service", "MainPID")
    site.edit("models.toml", 'pinned_on = ["far"]', 'pinned_on = ["far"]\nmax_sequences = 2')
    site.deploy()
    assert site.pids(GATEWAY, "neuron@near.service") == before[0]
    assert spoke.show("neuron@far.service", "MainPID") != before[1]
    live = site.sql("SELECT generation FROM live")
    links = hub.path("/var/lib/cortexd/etc").readlink(), spoke.path("/var/lib/cortexd/etc").readlink()

    # drift on the far side is seen from here
    spoke.run(["systemctl", "stop", "neuron@far.service"])
    assert "neuron@far.service" in site.cortexd("drift", status=2).stdout
    spoke.run(["systemctl", "start", "neuron@far.service"])

    # a host that cannot be reached: nothing changes anywhere
    spoke.run(["systemctl", "stop", "test-sshd"])
    site.edit("models.toml", "max_sequences = 2", "max_sequences = 3")
    site.cortexd("compile")
    done = site.cortexd("apply", status=1)
    assert "spoke" in done.stdout + done.stderr
    assert site.sql("SELECT generation FROM live") == live
    assert (hub.path("/var/lib/cortexd/etc").readlink(), spoke.path("/var/lib/cortexd/etc").readlink()) == links
    spoke.run(["systemctl", "start", "test-sshd"])

    # and back to where it began, on both
    site.cortexd("rollback")
    assert hub.path("/var/lib/cortexd/etc").readlink() == spoke.path("/var/lib/cortexd/etc").readlink() != links[0]
    assert site.ask("far-chat")["choices"][0]["finish_reason"] == "stop"
