"""Image and user mode: below a folder with nothing started, and in a user's own manager."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cortexd.deploy.host.agent import carry_out
from tests.systemd.fake import STEADY, Generation, ask
from tests.systemd.machine import PREFIX, Machine, install, why_not

A, B = "neuron@a.service", "neuron@b.service"
FIRST = Generation({A: ("1", STEADY), B: ("1", STEADY)})


def test_an_image_gets_units_links_and_user_and_nothing_is_started(box: Machine) -> None:
    box.write("/srv/image/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    box.write("/srv/image/etc/group", "root:x:0:\n")

    reports = [ask(box, FIRST.order(a, "image", root="/srv/image")) for a in ("prepare", "activate", "ready")]  # type: ignore[arg-type]

    assert "/srv/image/opt/cortexd/bin/cortexd is not there" in reports[0].detail["notes"][0]
    assert reports[2].problems == ()
    etc = "/srv/image/etc/systemd/system"
    assert box.run(["readlink", f"{etc}/multi-user.target.wants/cortexd.target"]).stdout == "../cortexd.target\n"
    assert box.run(["ls", f"{etc}/cortexd.target.wants"]).stdout == f"{A}\n{B}\n"
    assert "cortexd:x:" in box.read("/srv/image/etc/passwd")
    owner = box.run(["stat", "-c", "%u", "/srv/image/var/lib/cortexd"]).stdout.strip()
    assert f"cortexd:x:{owner}:" in box.read("/srv/image/etc/passwd") and owner != "0"
    assert box.run(["systemctl", "show", "-P", "LoadState", A]).stdout == "not-found\n"
    enabled = box.run(["systemctl", "--root=/srv/image", "is-enabled", "cortexd.target", A, B]).stdout
    assert enabled == "enabled\n" * 3

    one = Generation({A: ("2", STEADY)})
    for action in ("prepare", "activate"):
        report = ask(box, one.order(action, "image", root="/srv/image"))  # type: ignore[arg-type]
    assert dict(report.changed) == {A: "written", B: "removed"}
    assert box.run(["ls", f"{etc}/cortexd.target.wants"]).stdout == f"{A}\n"
    assert ask(box, one.order("observe", "image", root="/srv/image")).problems == ()


def test_an_image_that_was_written_to_runs_the_units_when_it_boots(tmp_path: Path) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    tree = install(tmp_path / "tree")
    (tree / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow"):
        shutil.copy2(f"/etc/{name}", tree / "etc" / name)
    for action in ("prepare", "activate"):
        report = carry_out(FIRST.order(action, "image", root=str(tree)))  # type: ignore[arg-type]
        assert report.detail["notes"] == []

    with Machine("booted", tree) as box:
        box.run(["sh", "-c", f"until systemctl is-active -q {A} {B} cortexd.target; do sleep 0.05; done"])
        pid = box.show(A, "MainPID")

        assert ask(box, FIRST.order("ready")).problems == ()
        assert ask(box, FIRST.order("observe")).problems == ()
        assert ask(box, FIRST.order("activate")).changed == ()
        second = Generation({A: ("1", STEADY), B: ("2", STEADY)})
        ask(box, second.order("prepare"))
        assert ask(box, second.order("activate")).changed == ((B, "restarted"),)
        assert box.show(A, "MainPID") == pid


@pytest.fixture
def ada(box: Machine) -> str:
    """A user with a running manager and cortexd in the home folder."""
    box.run(["useradd", "--create-home", "--shell", "/bin/sh", "ada"])
    uid = box.run(["id", "-u", "ada"]).stdout.strip()
    box.run(["install", "-d", "-o", "ada", "-g", "ada", "-m", "0700", f"/run/user/{uid}"])
    box.write("/etc/systemd/system/user-runtime-dir@.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    box.run(["systemctl", "daemon-reload"])
    box.run(["systemctl", "start", f"user@{uid}.service"])
    for name in ("bin/cortexd", "bin/neuron"):
        box.run(["install", "-D", "-o", "ada", f"{PREFIX}/{name}", f"/home/ada/.local/share/cortexd/{name}"])
    box.run(["chown", "-R", "ada:", "/home/ada"])
    return "ada"


def test_a_user_without_root_runs_the_units_in_a_manager_of_their_own(box: Machine, ada: str) -> None:
    prefix = "/home/ada/.local/share/cortexd"
    state = "~/.local/state/cortexd"
    second = Generation({A: ("1", STEADY), B: ("2", STEADY)})

    def pid(unit: str) -> str:
        uid = box.run(["id", "-u", ada]).stdout.strip()
        show = ["env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "systemctl", "--user", "show", "-P", "MainPID", unit]
        return box.run(show, user=ada).stdout.strip()

    for action in ("prepare", "activate"):
        report = ask(box, FIRST.order(action, "user", state_dir=state), ada, prefix)  # type: ignore[arg-type]
    assert report.problems == () and ("cortexd.target", "started") in report.changed
    a, b = pid(A), pid(B)
    for action in ("prepare", "activate"):
        report = ask(box, second.order(action, "user", state_dir=state), ada, prefix)  # type: ignore[arg-type]

    assert report.changed == ((B, "restarted"),)
    assert "0" not in (a, b) and pid(A) == a and pid(B) != b
    assert box.path(f"/home/ada/.config/systemd/user/{A}").exists()
    assert not box.path(f"/etc/systemd/system/{A}").exists()
    assert ask(box, second.order("ready", "user", state_dir=state), ada, prefix).problems == ()
    assert ask(box, second.order("observe", "user", state_dir=state), ada, prefix).problems == ()
    assert os.fspath(box.path("/home/ada/.local/state/cortexd/etc").readlink()) == f"generations/{second.hash}"
