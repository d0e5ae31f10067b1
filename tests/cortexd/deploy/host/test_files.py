"""Mode files: generations and the link, by the agent in this process."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cortexd.deploy.host.agent import carry_out
from cortexd.deploy.host.lock import host_lock
from cortexd.deploy.host.protocol import HostError, Order
from cortexd.deploy.host.wire import decode_report, encode_order

ROOT = Path(__file__).resolve().parents[4]

FILES = {"control.toml": b"[gateway]\n", "neurons/n1.toml": b"name = 'n1'\n"}


def order_for(state: Path, action: str = "prepare", generation: str = "aa11", **more: object) -> Order:
    fields: dict[str, object] = {"files": FILES if action == "prepare" else {}, **more}
    return Order(action, "box", "files", str(state), generation, **fields)  # type: ignore[arg-type]


def test_prepare_writes_the_generation_and_changes_nothing_in_use(tmp_path: Path) -> None:
    state = tmp_path / "state"

    report = carry_out(order_for(state))

    assert report.current is None
    assert (state / "generations/aa11/neurons/n1.toml").read_bytes() == FILES["neurons/n1.toml"]
    assert not (state / "etc").exists()
    modes = {(state / "generations/aa11" / name).stat().st_mode & 0o777 for name in FILES}
    assert modes == {0o640}


def test_activate_points_etc_to_it_and_again_changes_nothing(tmp_path: Path) -> None:
    carry_out(order_for(tmp_path))

    first = carry_out(order_for(tmp_path, "activate"))
    second = carry_out(order_for(tmp_path, "activate"))

    assert first.current == second.current == "aa11"
    assert (tmp_path / "etc/control.toml").read_bytes() == FILES["control.toml"]


def test_a_generation_that_somebody_changed_is_written_again(tmp_path: Path) -> None:
    carry_out(order_for(tmp_path))
    (tmp_path / "generations/aa11/control.toml").write_bytes(b"changed")
    (tmp_path / "generations/aa11/more").write_bytes(b"added")

    carry_out(order_for(tmp_path))

    found = tmp_path / "generations/aa11"
    assert {p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()} == set(FILES)
    assert (found / "control.toml").read_bytes() == FILES["control.toml"]
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["aa11"]


def test_activating_what_was_not_prepared_is_an_error_that_names_the_host(tmp_path: Path) -> None:
    carry_out(order_for(tmp_path))

    with pytest.raises(HostError, match=r"box: .*bb22 is not there; it has to be prepared first"):
        carry_out(order_for(tmp_path, "activate", "bb22"))


def test_observe_gives_the_hash_of_every_file_in_use(tmp_path: Path) -> None:
    carry_out(order_for(tmp_path))
    carry_out(order_for(tmp_path, "activate"))

    report = carry_out(order_for(tmp_path, "observe"))

    assert report.current == "aa11"
    assert report.files == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}


def test_observe_on_a_host_where_nothing_was_applied_changes_nothing(tmp_path: Path) -> None:
    report = carry_out(order_for(tmp_path / "none", "observe"))

    assert report.current is None and report.files == {}
    assert not (tmp_path / "none").exists()


def test_ready_says_when_another_generation_is_in_use(tmp_path: Path) -> None:
    carry_out(order_for(tmp_path))
    carry_out(order_for(tmp_path, "activate"))

    assert carry_out(order_for(tmp_path, "ready")).problems == ()
    (problem,) = carry_out(order_for(tmp_path, "ready", "bb22")).problems
    assert "aa11" in problem


def test_prune_keeps_what_it_is_told_and_what_is_in_use(tmp_path: Path) -> None:
    for name in ("aa11", "bb22", "cc33"):
        carry_out(order_for(tmp_path, generation=name))
    carry_out(order_for(tmp_path, "activate", "aa11"))
    (tmp_path / "generations/.staging-left").mkdir()

    report = carry_out(order_for(tmp_path, "prune", keep=("cc33",)))

    assert report.detail == {"pruned": ["bb22"]}
    assert sorted(p.name for p in (tmp_path / "generations").iterdir()) == ["aa11", "cc33"]


def test_an_etc_that_is_not_a_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()

    with pytest.raises(HostError, match="was not made by `cortexd apply`"):
        carry_out(order_for(tmp_path))
    assert not (tmp_path / "generations").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a//b", "", "a/./b"])
def test_a_file_outside_of_the_generation_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HostError, match="no path below a generation"):
        carry_out(order_for(tmp_path, files={name: b""}))


def test_another_release_is_refused_with_both_versions_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"this host has cortexd .*, the one that asks is 99\.0"):
        carry_out(replace(order_for(tmp_path), version="99.0"))


def test_two_agents_do_not_work_at_once(tmp_path: Path) -> None:
    with (
        host_lock(tmp_path, 1),
        pytest.raises(HostError, match="another `cortexd host` is at work"),
    ):
        carry_out(order_for(tmp_path, timeout_s=0.1))


def test_the_second_agent_waits_for_the_first(tmp_path: Path) -> None:
    reports = []
    with host_lock(tmp_path, 1):
        thread = threading.Thread(target=lambda: reports.append(carry_out(order_for(tmp_path, timeout_s=20))))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(20)

    assert [r.host for r in reports] == ["box"]


def test_a_state_folder_in_the_home_folder_may_be_named_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    carry_out(replace(order_for(tmp_path), state_dir="~/state"))

    assert (tmp_path / "state/generations/aa11/control.toml").is_file()


def test_a_host_that_has_only_the_package_can_carry_an_order_out(tmp_path: Path) -> None:
    missing = ("sqlalchemy", "alembic", "gevent", "httpx", "rich", "numpy", "onnxruntime", "jinja2", "compiler")
    code = (
        f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
        "sys.argv = ['cortexd', 'host', 'prepare']\nfrom cortexd.__main__ import main; main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], input=encode_order(order_for(tmp_path / "x")), capture_output=True, cwd=ROOT
    )

    assert done.returncode == 0, done.stderr
    assert decode_report(done.stdout).host == "box"


@pytest.mark.parametrize(("action", "text"), [("prepare", b"{}"), ("ready", b"hello"), ("activate", b"")])
def test_what_is_no_order_is_one_clear_line(action: str, text: bytes) -> None:
    done = subprocess.run([sys.executable, "-m", "cortexd", "host", action], input=text, capture_output=True, cwd=ROOT)

    assert done.returncode == 1
    assert done.stderr == b"Error: standard input holds no order; `cortexd apply` sends one\n"


def test_an_order_for_another_step_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cortexd", "host", "prune"],
        input=encode_order(order_for(tmp_path)),
        capture_output=True,
        cwd=ROOT,
    )

    assert done.returncode == 1 and b"the order on standard input is to prepare, not to prune" in done.stderr
