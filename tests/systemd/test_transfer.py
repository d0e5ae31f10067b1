"""Two machines with their sandboxed units: a model that lies in somebody's home on one is served by the other."""

from __future__ import annotations

import hashlib

from tests.systemd.conftest import Boot
from tests.systemd.fleet import address
from tests.systemd.machine import PREFIX, ROOT
from tests.systemd.site import Site

TINY = "neuron/artifacts/builtin/tiny-chat"
DIGEST = hashlib.sha256((ROOT / TINY / "manifest.json").read_bytes()).hexdigest()
STORE = "/var/lib/cortexd/artifacts"

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
name = "far"
host = "spoke"
endpoint = "http://{address(1)}:13131"
devices = [{{ name = "cpu-0", kind = "cpu", index = 0, threads = 1, memory_mb = 4096 }}]
"""
MODELS = """
[[models]]
id = "chat"
source = "path:/home/ops/model"
task = "chat"
context = 4096
pinned = true
"""


def test_an_artifact_of_one_host_is_served_by_a_neuron_of_the_other(boot: Boot) -> None:
    hub, spoke = boot("hub", "spoke")
    hub.run(["useradd", "--create-home", "ops"])
    hub.run(["cp", "-r", f"{PREFIX}/src/{TINY}", "/home/ops/model"])
    site = Site(hub, FLEET, MODELS)

    said = site.deploy()

    assert site.ask("chat")["choices"][0]["finish_reason"] == "stop", said
    assert not hub.path(f"{STORE}/artifacts").exists()
    files = spoke.run(["find", f"{STORE}/artifacts/{DIGEST}", "-name", "model.onnx", "-links", "2"]).stdout
    assert files.strip() == f"{STORE}/artifacts/{DIGEST}/model.onnx"
    owners = spoke.run(["find", STORE, "-not", "-user", "cortexd"]).stdout
    assert owners == ""

    # the folder moves into the store, and then away: neurons get it from there, and the unit sees no home any more
    site.cortexd("model", "pull", "path:/home/ops/model")
    assert hub.run(["find", STORE, "-not", "-user", "cortexd"]).stdout == ""
    hub.run(["mv", "/home/ops/model", "/home/ops/away"])
    spoke.run(["systemctl", "stop", "neuron@far.service"])
    spoke.run(["rm", "-r", f"{STORE}/blobs", f"{STORE}/artifacts"])
    spoke.run(["systemctl", "start", "neuron@far.service"])
    assert site.ask("chat")["choices"][0]["finish_reason"] == "stop"
