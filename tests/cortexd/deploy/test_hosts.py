"""Several hosts: nothing changes unless all can be prepared, and all go back when one is not ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cortexd.cli import cli
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.files import INTENT
from cortexd.deploy.generation import load_generation
from cortexd.deploy.hosts import connect_host, hosts_of
from cortexd.deploy.pull import apply_here
from cortexd.deploy.reach.local import LocalChannel
from cortexd.deploy.reach.ssh import SshChannel
from cortexd.deploy.rollback import rollback
from cortexd.deploy.site import Site, files_site
from tests.cortexd.deploy.conftest import (
    FLEET,
    THERE,
    Hosts,
    Place,
    compiled,
    current,
    desired,
    files,
    live,
    query,
    state,
    unreachable,
)

BOTH = FLEET + THERE


def test_one_apply_serves_both_hosts_and_a_rollback_brings_both_back(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2, fleet=BOTH), place.compile(3, fleet=BOTH.replace("6144", "8192"))
    apply(one, place.site, settings=hosts.settings())
    before = desired(place.var)
    apply(two, place.site, settings=hosts.settings())
    assert files(hosts.state("there")) == compiled(two, "there") != compiled(one, "there")

    rollback(place.site, settings=hosts.settings())

    assert desired(place.var) == before
    assert files(place.var) == compiled(one, "here")
    assert files(hosts.state("there")) == compiled(one, "there")


@pytest.mark.parametrize("how", ["raised", "reported"])
def test_a_host_that_cannot_be_prepared_changes_nothing_anywhere(place: Place, hosts: Hosts, how: str) -> None:
    one, two = place.compile(2, fleet=BOTH), place.compile(3, fleet=BOTH)
    apply(one, place.site, settings=hosts.settings())
    before = state(place.var)
    hosts.trouble["there", "prepare"] = unreachable("there") if how == "raised" else "no /opt/cortexd/bin/neuron"

    with pytest.raises(ApplyError, match="nothing was changed") as refused:
        apply(two, place.site, settings=hosts.settings())

    assert not isinstance(refused.value, NotReady)
    assert ("start sshd there" if how == "raised" else "no /opt/cortexd/bin/neuron") in str(refused.value)
    assert state(place.var) == before and not (place.var / INTENT).exists()
    assert current(hosts.state("there")) == one.name
    assert [action for _, action in hosts.asked if action == "activate"] == ["activate"] * 2, "of the first apply"


@pytest.mark.parametrize("action", ["activate", "ready"])
@pytest.mark.parametrize("host", ["here", "there"])
def test_a_host_that_is_not_ready_brings_the_former_generation_back_everywhere(
    place: Place, hosts: Hosts, action: str, host: str
) -> None:
    one, two = place.compile(2, fleet=BOTH), place.compile(3, fleet=BOTH)
    apply(one, place.site, settings=hosts.settings())
    before = desired(place.var)
    hosts.trouble[host, action, two.name] = "neuron@far.service: failed with exit code 1"

    with pytest.raises(NotReady, match=f"so {one.name[:12]} is live again.*version 3") as told:
        apply(two, place.site, settings=hosts.settings())

    assert f"{host}: neuron@far.service: failed with exit code 1" in str(told.value)
    assert desired(place.var) == before
    assert files(place.var) == compiled(one, "here")
    assert files(hosts.state("there")) == compiled(one, "there")
    assert not (place.var / INTENT).exists()
    rows = query(place.var, "SELECT generation, kind, state, error IS NOT NULL FROM apply_history ORDER BY version")
    assert rows == [(one.name, "apply", "live", 0), (two.name, "apply", "failed", 1), (one.name, "return", "live", 0)]
    assert apply(one, place.site, settings=hosts.settings()).nothing
    hosts.trouble.clear()
    assert apply(two, place.site, settings=hosts.settings()).version == 4


def test_a_rollback_that_is_not_ready_returns_too(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    apply(two, place.site)
    hosts.trouble["here", "ready", one.name] = "broken"

    with pytest.raises(NotReady, match=f"so {two.name[:12]} is live again"):
        rollback(place.site, settings=hosts.settings())

    assert live(place.var) == current(place.var) == two.name


def test_the_first_generation_stays_and_is_finished_by_the_next_apply(place: Place, hosts: Hosts) -> None:
    one = place.compile()
    hosts.trouble["here", "ready"] = "gateway: connection refused"

    with pytest.raises(NotReady, match=r"no earlier one to go back to.*\n.*connection refused"):
        apply(one, place.site, settings=hosts.settings())
    assert query(place.var, "SELECT state FROM apply_history") == [("failed",)]
    with pytest.raises(NotReady, match="was live already and is not ready"):
        apply(one, place.site, settings=hosts.settings())
    hosts.trouble.clear()
    done = apply(one, place.site, settings=hosts.settings())

    assert done.version is None and done.repaired == ("it had not become ready before",)
    assert query(place.var, "SELECT version, state, error FROM apply_history") == [(1, "live", None)]
    assert apply(one, place.site, settings=hosts.settings()).nothing


def test_when_the_way_back_fails_too_it_says_both_and_apply_again_completes(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2, fleet=BOTH), place.compile(3, fleet=BOTH)
    apply(one, place.site, settings=hosts.settings())
    hosts.trouble["there", "ready"] = "power is gone"

    with pytest.raises(NotReady, match=r"did not become ready.*\n.*power is gone\n.*did not either") as told:
        apply(two, place.site, settings=hosts.settings())

    assert live(place.var) == current(place.var) == current(hosts.state("there")) == one.name
    assert query(place.var, "SELECT state FROM apply_history ORDER BY version") == [("live",), ("failed",), ("failed",)]
    hosts.trouble.clear()
    named = str(told.value).partition("`cortexd apply ")[2].partition("`")[0]
    assert apply(Path(named), place.site, settings=hosts.settings()).repaired


def test_a_host_that_was_changed_by_hand_is_put_right(place: Place, hosts: Hosts) -> None:
    one = place.compile(2, fleet=BOTH)
    apply(one, place.site, settings=hosts.settings())
    path = hosts.state("there") / "etc" / "neurons" / "far.toml"
    path.write_text("changed")

    done = apply(one, place.site, settings=hosts.settings())

    assert done.repaired == ("there:neurons/far.toml: its content was changed",)
    assert files(hosts.state("there")) == compiled(one, "there")


def test_a_host_that_leaves_loses_its_files_and_does_not_hold_up_the_others(place: Place, hosts: Hosts) -> None:
    both, alone = place.compile(2, fleet=BOTH), place.compile(2)
    apply(both, place.site, settings=hosts.settings())
    apply(alone, place.site, settings=hosts.settings())
    left = files(hosts.state("there"))
    assert (current(hosts.state("there")), set(left)) == (alone.name, {"host.json"})
    assert json.loads(left["host.json"])["units"] == [], "so its units are stopped"
    rollback(place.site, settings=hosts.settings())
    assert files(hosts.state("there")) == compiled(both, "there")

    for action in ("prepare", "activate", "prune"):
        hosts.trouble["there", action] = unreachable("there")
    done = apply(alone, place.site, settings=hosts.settings())

    assert done.version == 4 and live(place.var) == alone.name
    assert any("connection refused" in note and "not in this generation any more" in note for note in done.notes)


def test_a_host_without_ssh_is_named_and_takes_its_part_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    folder = place.compile(2, fleet=BOTH.replace('ssh = "there.example"\n', ""))
    main = CliRunner().invoke(cli, ["apply"])
    far = ["apply", "--host", "there", "--state-dir", "far", str(folder)]
    first, second, wrong = (CliRunner().invoke(cli, a) for a in (far, [*far, "--json"], ["apply", "--host", "nobody"]))
    gateway = CliRunner().invoke(cli, ["apply", "--host", "here"])

    assert main.exit_code == 0 and "there cannot be reached from here" in main.output
    assert "`cortexd apply --host there GENERATION_DIR`" in main.output
    assert first.exit_code == 0 and "there has generation" in first.output
    assert files(Path("far")) == compiled(folder, "there") and not Path("far/state.db").exists()
    assert json.loads(second.stdout)["nothing"] is True
    assert wrong.exit_code == 1 and "nothing for host nobody; it has here, there" in wrong.output
    assert gateway.exit_code == 1 and "is the gateway host" in gateway.output


def test_a_host_that_pulls_needs_neither_database_nor_control_plane(place: Place) -> None:
    folder = place.compile(2, fleet=BOTH.replace('ssh = "there.example"\n', ""))
    code = (
        "import sys\n"
        "for name in ('sqlalchemy', 'alembic', 'rich', 'httpx', 'gevent', 'aiosqlite'): sys.modules[name] = None\n"
        f"sys.argv = ['cortexd', 'apply', '--host', 'there', '--state-dir', 'far', {str(folder)!r}]\n"
        "from cortexd.__main__ import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert f"there has generation {folder.name[:12]} in far" in done.stdout
    assert files(place.folder / "far") == compiled(folder, "there")


def test_a_host_that_pulls_goes_back_by_itself(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2, fleet=BOTH), place.compile(2, fleet=BOTH.replace("6144", "8192"))
    site = files_site(place.folder / "far")
    apply_here(one, site, "there", hosts.settings())
    hosts.trouble["there", "ready", two.name] = "neuron@far.service: no such device"

    with pytest.raises(NotReady, match=rf"went back to {one.name[:12]}:\n.*no such device"):
        apply_here(two, site, "there", hosts.settings())

    assert files(site.folder) == compiled(one, "there")


def test_the_way_to_each_host_follows_from_the_fleet_and_the_mode(place: Place) -> None:
    one = load_generation(place.compile(2, fleet=BOTH))
    other = load_generation(place.compile(2, fleet=BOTH.replace('"here"', '"renamed"').replace('"there"', '"where"')))
    system, user = Site("system", "/var/lib/cortexd"), Site("user", "~/.local/state/cortexd")

    found = hosts_of(system, one)
    assert [type(c) for c in found.channels] == [LocalChannel, SshChannel]
    assert (found.channels[1].target, found.channels[1].prefix) == ("there.example", "/opt/cortexd")  # type: ignore[attr-defined]
    assert hosts_of(user, one).channels[1].prefix == ".local/share/cortexd"  # type: ignore[attr-defined]
    assert hosts_of(replace(system, mode="image", root="/mnt"), one).by_hand == ("there",)
    # the gateway's host under another name is this machine all the same
    assert hosts_of(system, other, one).names == ("renamed", "where", "there")
    assert isinstance(connect_host("x", None, {}, system), LocalChannel)


def test_a_gateway_host_with_another_name_keeps_its_files_through_the_way_back(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2), place.compile(3, fleet=FLEET.replace('"here"', '"renamed"'))
    apply(one, place.site, settings=hosts.settings())
    hosts.trouble["renamed", "ready", two.name] = "broken"

    with pytest.raises(NotReady, match="is live again"):
        apply(two, place.site, settings=hosts.settings())

    assert files(place.var) == compiled(one, "here")
    hosts.trouble.clear()
    apply(two, place.site, settings=hosts.settings())
    assert files(place.var) == compiled(two, "renamed")
