"""The units of a fleet: what systemd says to them, what they allow, and what their hashes cover."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compiler.emitters.addresses import for_socket, from_here
from compiler.pipeline import compile_files
from tests.compiler.artifacts import make_all

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")

FLEET = """
[fleet]
name = "lab"
[gateway]
host = "front"
listen = "0.0.0.0:31313"
metrics_listen = "[::]:31314"
tls_certificate = "/etc/cortexd/100%.crt"
tls_key = "/etc/cortexd/api.key"
drain_s = 12.5
[systemd]
prefix = "PREFIX"
user_prefix = "programs"
[[hosts]]
name = "front"
address = "10.0.0.1"
[[hosts]]
name = "gpus"
address = "10.0.0.2"
[[neurons]]
name = "big"
host = "gpus"
endpoint = "http://10.0.0.2:13131"
token_file = "/etc/cortexd/to ken"
devices = [
  { name = "cuda-3", kind = "cuda", index = 3, memory_mb = 24000 },
  { name = "cuda-0", kind = "cuda", index = 0, memory_mb = 24000 },
]
[[neurons]]
name = "small"
host = "front"
endpoint = "http://10.0.0.1:13131"
devices = [{ name = "cpu-0", kind = "cpu", index = 0, threads = 2, memory_mb = 6144 }]
[[accounts]]
name = "team"
[[keys]]
id = "laptop"
account = "team"
secret_credential = "laptop-key"
[[keys]]
id = "ci"
account = "team"
secret_env = "CI_KEY"
"""
MODELS = """
[[models]]
id = "org/chat"
source = "path:artifacts/chat"
task = "chat"
idle_ttl_s = 60
"""


class Generation:
    """A compiled fleet, its programs where the units expect them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_all(folder)
        for programs in (folder / "opt" / "bin", folder / "programs" / "bin"):
            programs.mkdir(parents=True)
            for name in ("cortexd", "neuron"):
                (programs / name).symlink_to("/bin/true")
        self.compile(FLEET, MODELS)

    def compile(self, fleet: str, models: str = MODELS) -> None:
        (self.folder / "fleet.toml").write_text(fleet.replace("PREFIX", str(self.folder / "opt")))
        (self.folder / "models.toml").write_text(models)
        outcome = compile_files(self.folder / "fleet.toml", self.folder / "models.toml", self.folder / "build")
        assert outcome.emitted is not None, outcome.text()
        self.hosts = outcome.emitted.folder / "hosts"

    def unit(self, host: str, name: str, mode: str = "system") -> str:
        return (self.hosts / host / "systemd" / mode / name).read_text()

    def host(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.hosts / name / "host.json").read_text()))

    def hashes(self) -> dict[str, str]:
        return {f"{h}/{u['name']}": u["hash"] for h in ("front", "gpus") for u in self.host(h)["units"]}


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    return Generation(tmp_path)


def values(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]


@needs_analyze
@pytest.mark.parametrize("mode", ["system", "user"])
def test_systemd_has_nothing_to_say_about_the_units(generation: Generation, mode: str, tmp_path: Path) -> None:
    units = sorted(str(p) for p in generation.hosts.glob(f"*/systemd/{mode}/*"))
    (tmp_path / "run").mkdir()
    environment = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    options = ["--user"] if mode == "user" else []
    command = ["systemd-analyze", *options, "verify", *units]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
def test_the_sandbox_is_as_tight_as_promised(generation: Generation) -> None:
    limits = {
        "front/cortexd-gateway.service": 2.0,
        "front/cortexd-controller.service": 2.0,
        "front/neuron@small.service": 4.0,
        "gpus/neuron@big.service": 4.0,
    }
    for name, limit in limits.items():
        host, _, unit = name.partition("/")
        path = generation.hosts / host / "systemd" / "system" / unit
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+) ", said)

        assert found is not None, said
        assert float(found[1]) <= limit, name


def test_a_neuron_gets_exactly_its_gpus(generation: Generation) -> None:
    big, small = generation.unit("gpus", "neuron@big.service"), generation.unit("front", "neuron@small.service")

    assert values(big, "DeviceAllow") == [
        "/dev/nvidia0 rw", "/dev/nvidia3 rw", "/dev/nvidiactl rw", "/dev/nvidia-uvm rw", "/dev/nvidia-uvm-tools rw",
    ]  # fmt: skip
    assert values(big, "DevicePolicy") == ["closed"]
    assert "ProtectClock" not in big  # it would let the clock's device in
    assert values(small, "DeviceAllow") == [] and values(small, "PrivateDevices") == ["yes"]
    assert values(generation.unit("gpus", "neuron@big.service", "user"), "DevicePolicy") == []


def test_secrets_come_as_credentials_and_none_is_in_a_unit(generation: Generation) -> None:
    gateway = generation.unit("front", "cortexd-gateway.service")

    assert values(gateway, "LoadCredential") == [
        "token-big:/etc/cortexd/to ken",
        "laptop-key:/etc/cortexd/credentials/laptop-key",
        "tls-certificate:/etc/cortexd/100%%.crt",
        "tls-key:/etc/cortexd/api.key",
    ]
    assert values(gateway, "EnvironmentFile") == ["-/etc/cortexd/environment"]
    controller = generation.unit("front", "cortexd-controller.service")
    assert values(controller, "LoadCredential") == ["token-big:/etc/cortexd/to ken"]
    assert values(generation.unit("gpus", "neuron@big.service"), "LoadCredential") == ["token-big:/etc/cortexd/to ken"]
    user = generation.unit("front", "cortexd-gateway.service", "user")
    assert "laptop-key:%h/.config/cortexd/credentials/laptop-key" in values(user, "LoadCredential")


def test_a_stop_is_bounded_by_the_drain_and_a_start_by_its_limits(generation: Generation) -> None:
    gateway, neuron = generation.unit("front", "cortexd-gateway.service"), generation.unit("gpus", "neuron@big.service")

    assert values(gateway, "TimeoutStopSec") == ["28"]  # 12.5 s in whole seconds, and what the ledger needs
    assert values(neuron, "TimeoutStopSec") == ["40"]
    for unit in (gateway, neuron, generation.unit("front", "cortexd-controller.service")):
        assert values(unit, "Type") == ["notify"] and values(unit, "KillMode") == ["mixed"]
        assert values(unit, "WatchdogSec") and values(unit, "StartLimitBurst") and values(unit, "RestartSec")


def test_the_socket_holds_both_addresses(generation: Generation) -> None:
    socket = generation.unit("front", "cortexd-gateway.socket")

    assert values(socket, "ListenStream") == ["0.0.0.0:31313", "[::]:31314"]
    assert "Requires=cortexd-gateway.socket" in generation.unit("front", "cortexd-gateway.service")


def test_an_address_with_a_name_is_the_gateways_own_to_open(generation: Generation) -> None:
    generation.compile(FLEET.replace("0.0.0.0:31313", "api.lan:31313"))

    assert "cortexd-gateway.socket" not in {u["name"] for u in generation.host("front")["units"]}
    assert "cortexd-gateway.socket" not in generation.unit("front", "cortexd-gateway.service")


def test_host_json_names_the_units_in_the_order_of_starting(generation: Generation) -> None:
    front, gpus = generation.host("front"), generation.host("gpus")

    assert [(u["name"], u["kind"], u["ready"]) for u in front["units"]] == [
        ("neuron@small.service", "service", "http://10.0.0.1:13131/health"),
        ("cortexd-controller.service", "service", None),
        ("cortexd-gateway.socket", "socket", None),
        ("cortexd-gateway.service", "service", "http://[::1]:31314/ready"),
        ("cortexd.target", "target", None),
    ]
    assert [u["name"] for u in gpus["units"]] == ["neuron@big.service", "cortexd.target"]
    assert (front["programs"], gpus["programs"]) == (["cortexd", "neuron"], ["neuron"])
    assert (front["schema"], front["fleet"], front["host"]) == (1, "lab", "front")
    assert front["prefix"] == str(generation.folder / "opt") and front["user_prefix"] == "programs"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('name = "lab"', 'name = "other"', set()),
        ("idle_ttl_s = 60", "idle_ttl_s = 61", set()),
        ("drain_s = 12.5", "drain_s = 13.5", {"front/cortexd-gateway.service"}),
        (
            "[::]:31314",
            "[::]:31315",
            # the neuron on the other host fetches its artifacts there
            {"front/cortexd-gateway.service", "front/cortexd-gateway.socket", "gpus/neuron@big.service"},
        ),
        ("[systemd]", "[controller]\npoll_interval_s = 9\n[systemd]", {"front/cortexd-controller.service"}),
        (
            "[systemd]",
            '[database]\nurl = "sqlite:///other.db"\n[systemd]',
            {"front/cortexd-controller.service", "front/cortexd-gateway.service"},
        ),
        ("threads = 2", "threads = 3", {"front/neuron@small.service"}),
        ("index = 3", "index = 4", {"gpus/neuron@big.service"}),
        ('task = "chat"', 'task = "chat"\ncontext = 2048', {"front/neuron@small.service", "gpus/neuron@big.service"}),
    ],
)
def test_a_units_hash_moves_with_what_it_is_started_from_and_nothing_else(
    generation: Generation, old: str, new: str, changed: set[str]
) -> None:
    before = generation.hashes()
    generation.compile(FLEET.replace(old, new), MODELS.replace(old, new))
    after = generation.hashes()

    assert {name for name in before if before[name] != after[name]} == changed


def test_adding_a_neuron_leaves_the_others_and_the_target_as_they_are(generation: Generation) -> None:
    before = generation.hashes()
    more = '[[neurons]]\nname = "more"\nhost = "front"\nendpoint = "http://10.0.0.1:13132"\n'
    device = 'devices = [{ name = "cpu-1", kind = "cpu", index = 1, threads = 1, memory_mb = 6144 }]\n[[accounts]]'
    generation.compile(FLEET.replace("[[accounts]]", more + device))
    after = generation.hashes()

    assert {n for n in after if after[n] != before.get(n)} == {"front/neuron@more.service"}


def test_what_a_sandbox_hides_is_let_in_and_a_database_elsewhere_is_writable(generation: Generation) -> None:
    database = '[database]\nurl = "sqlite:////srv/lab data/control.db"\n[systemd]'
    generation.compile(FLEET.replace("[systemd]", database))
    neuron = generation.unit("front", "neuron@small.service")

    assert f'"-{generation.folder}/artifacts/chat"' in values(neuron, "BindReadOnlyPaths")
    gateway = generation.unit("front", "cortexd-gateway.service")
    assert values(gateway, "ReadWritePaths") == ['/var/lib/cortexd "/srv/lab data"']


def test_addresses_are_told_apart() -> None:
    assert [for_socket(a) for a in ("localhost:1", "[::1]:2", "10.0.0.1:3", "host.lan:4")] == [
        "127.0.0.1:1", "[::1]:2", "10.0.0.1:3", None,
    ]  # fmt: skip
    assert [from_here(a) for a in ("0.0.0.0:1", "[::]:2", "10.0.0.1:3")] == ["127.0.0.1:1", "[::1]:2", "10.0.0.1:3"]
