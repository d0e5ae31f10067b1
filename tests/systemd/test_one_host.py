"""One host with a real systemd: changes while clients keep asking, and an image. ``test_apply`` has the promises."""

from __future__ import annotations

from tests.systemd.machine import Machine
from tests.systemd.site import CONTROLLER, GATEWAY, SOCKET, Site, example

NEURON = "neuron@local.service"
SERVICES = (GATEWAY, CONTROLLER, NEURON)


def test_an_empty_host_serves_and_every_change_touches_what_it_must(box: Machine) -> None:
    site = Site(box, example("fleet"), example("models"))

    site.cortexd("compile")
    site.cortexd("plan", status=2)
    site.cortexd("apply")
    answer = site.ask("tiny-chat")

    assert answer["choices"][0]["finish_reason"] == "stop"
    assert site.sql("SELECT model, neuron, status FROM usage") == [["tiny-chat", "local", 200]]
    assert site.cortexd("plan").stdout.strip() != ""
    assert "no drift" in site.cortexd("drift").stdout
    for unit in SERVICES:
        assert box.show(unit, "User") == "cortexd"
    first = site.pids(*SERVICES)

    # a time-to-live: rows only
    site.edit("models.toml", "# idle_ttl_s = 900", "idle_ttl_s = 900")
    with site.under_load("tiny-chat") as seen:
        site.deploy()
    assert (seen.wrong, seen.good > 0, site.pids(*SERVICES)) == ([], True, first)

    # a setting of the gateway: its process and no other, and no connection is refused meanwhile
    site.edit("fleet.toml", "# keepalive_interval_s = 1 ", "keepalive_interval_s = 2 ")
    with site.under_load("tiny-chat") as seen:
        said = site.deploy()
    second = site.pids(*SERVICES)
    assert seen.wrong == [] and seen.good > 0
    assert {unit for unit in SERVICES if second[unit] != first[unit]} == {GATEWAY}, said

    # back by two: rows and files of the first generation, byte for byte
    site.cortexd("rollback", "2")
    history = site.sql("SELECT kind, state, generation FROM apply_history ORDER BY version")
    assert [row[:2] for row in history] == [
        ["apply", "live"],
        ["apply", "live"],
        ["apply", "live"],
        ["rollback", "live"],
    ]
    assert history[3][2] == history[0][2]
    site.cortexd("drift")
    assert site.ask("tiny-chat")["choices"][0]["finish_reason"] == "stop"


def test_an_image_gets_units_that_start_with_it(box: Machine) -> None:
    site = Site(box, example("fleet"), example("models"))
    box.run(["mkdir", "-p", "/srv/image"])

    site.cortexd("compile")
    site.cortexd("apply", "--root", "/srv/image")

    below = box.path("/srv/image")
    assert (below / "etc/systemd/system" / NEURON).is_file()
    assert (below / "var/lib/cortexd/state.db").is_file()
    links = [p.name for p in (below / "etc/systemd/system/multi-user.target.wants").iterdir()]
    assert links == ["cortexd.target"]
    assert box.run(["systemctl", "is-active", SOCKET], check=False).stdout.strip() == "inactive"
