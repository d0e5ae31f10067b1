"""The agent on a real systemd: what is started, restarted, stopped and left alone."""

from __future__ import annotations

from cortexd.deploy.host.wire import encode_order
from tests.systemd.fake import BROKEN, STEADY, Generation, ask, go
from tests.systemd.machine import PREFIX, Machine

A, B = "neuron@a.service", "neuron@b.service"
FIRST = Generation({A: ("1", STEADY), B: ("1", STEADY)})
SECOND = Generation({A: ("1", STEADY), B: ("2", STEADY)})


def pids(machine: Machine, *units: str) -> list[str]:
    return [machine.show(unit, "MainPID") for unit in units]


def test_an_empty_host_runs_the_units_and_again_is_nothing(box: Machine) -> None:
    ask(box, FIRST.order("prepare"))
    assert not box.path("/etc/systemd/system/neuron@a.service").exists()

    first = ask(box, FIRST.order("activate"))
    before = pids(box, A, B)
    second = ask(box, FIRST.order("activate"))

    assert first.problems == second.problems == ()
    assert set(first.changed) == {(A, "started"), (B, "started"), ("cortexd.target", "started")}
    assert second.changed == ()
    assert "0" not in before and pids(box, A, B) == before
    assert {u.name: u.active for u in second.units} == {A: "active", B: "active", "cortexd.target": "active"}
    assert box.run(["systemctl", "is-enabled", "cortexd.target"]).stdout == "enabled\n"
    assert ask(box, FIRST.order("ready")).problems == ()
    observed = ask(box, FIRST.order("observe"))
    assert observed.problems == () and observed.current == FIRST.hash
    assert f"unit:{A}" in observed.files and "control.toml" in observed.files


def test_only_the_unit_whose_hash_changed_gets_another_pid(box: Machine) -> None:
    go(box, FIRST)
    a, b = pids(box, A, B)

    report = go(box, SECOND)

    assert report.changed == ((B, "restarted"),)
    assert box.show(A, "MainPID") == a and box.show(B, "MainPID") != b
    assert "SETTING=2" in box.show(B, "Environment")
    back = go(box, FIRST)
    assert back.changed == ((B, "restarted"),) and box.show(A, "MainPID") == a


def test_a_removed_unit_is_stopped_and_its_file_and_links_are_gone(box: Machine) -> None:
    go(box, FIRST)

    report = go(box, Generation({A: ("1", STEADY)}))

    assert report.changed == ((B, "removed"),)
    assert box.show(B, "ActiveState") == "inactive"
    assert not box.path(f"/etc/systemd/system/{B}").exists()
    assert box.run(["ls", "/etc/systemd/system/cortexd.target.wants"]).stdout == f"{A}\n"
    assert box.read("/var/lib/cortexd/installed.json") == f'{{"units": ["cortexd.target", "{A}"]}}\n'


def test_a_broken_unit_is_named_with_what_it_wrote_and_no_secret(box: Machine) -> None:
    broken = Generation({A: ("1", STEADY), B: ("1", BROKEN)})
    go(box, broken)

    report = ask(box, broken.order("ready"))

    (problem,) = report.problems
    assert problem.startswith(f"{B} failed (")
    assert "cannot open the device" in problem
    assert "hunter2" not in problem
    assert go(box, FIRST).problems == ()
    assert ask(box, FIRST.order("ready")).problems == ()


def test_a_unit_that_never_answers_is_named_when_the_time_is_over(box: Machine) -> None:
    deaf = Generation({A: ("1", STEADY)}, ready={A: "http://127.0.0.1:9/health"})
    go(box, deaf)

    report = ask(box, deaf.order("ready", timeout_s=1.0))

    assert len(report.problems) == 1
    assert f"{A} does not answer at http://127.0.0.1:9/health (waited 1 s)" in report.problems[0]


def test_state_belongs_to_the_user_and_generations_to_root(box: Machine) -> None:
    box.write("/var/lib/cortexd/state.db", b"as apply makes it")

    go(box, FIRST)

    def owner(path: str) -> str:
        return box.run(["stat", "-c", "%U:%G %a", path]).stdout.strip()

    assert owner("/var/lib/cortexd") == "cortexd:cortexd 750"
    assert owner("/var/lib/cortexd/state.db") == "cortexd:cortexd 640"
    assert owner("/var/lib/cortexd/artifacts") == "cortexd:cortexd 750"
    assert owner("/var/lib/cortexd/generations") == "root:cortexd 750"
    assert owner(f"/var/lib/cortexd/generations/{FIRST.hash}/control.toml") == "root:cortexd 640"
    assert box.run(["cat", "/var/lib/cortexd/etc/control.toml"], user="cortexd").stdout == "[gateway]\n"


def test_a_generation_that_the_services_user_put_there_is_not_used_by_root(box: Machine) -> None:
    go(box, FIRST)
    box.run(["sh", "-c", "cd /var/lib/cortexd && mv generations old && cp -r old generations"], user="cortexd")

    done = box.run(
        [f"{PREFIX}/bin/cortexd", "host", "activate"], input=encode_order(FIRST.order("activate")).decode(), check=False
    )

    assert done.returncode == 1
    assert "generations was not made by `cortexd apply`" in done.stderr and "Traceback" not in done.stderr


def test_an_agent_killed_at_any_call_of_systemctl_leaves_nothing_that_runs_with_an_old_hash(box: Machine) -> None:
    box.write("/opt/counting/systemctl", _COUNTING, mode=0o755)
    go(box, FIRST)
    a = box.show(A, "MainPID")
    ask(box, SECOND.order("prepare"))
    for when in ("before", "after"):
        for number in range(1, 20):
            b = box.show(B, "MainPID")
            killed = _activate_killed(box, when, number)
            between = box.show(B, "MainPID")

            report = ask(box, SECOND.order("activate"))

            where = f"killed {when} call {number}"
            assert box.show(A, "MainPID") == a, where
            assert "SETTING=2" in box.read(f"/proc/{box.show(B, 'MainPID')}/environ"), where
            # and nothing restarts twice
            assert ((B, "restarted") in report.changed) == (between == b), where
            assert ask(box, FIRST.order("activate")).changed == ((B, "restarted"),), where
            if not killed:
                break
        assert number > 4
    assert ask(box, FIRST.order("ready")).problems == ()


def _activate_killed(box: Machine, when: str, number: int) -> bool:
    box.run(["sh", "-c", "rm -f /tmp/calls"])
    program = f"PATH=/opt/counting:$PATH WHEN={when} NUMBER={number} exec {PREFIX}/bin/cortexd host activate"
    done = box.run(["sh", "-c", program], input=encode_order(SECOND.order("activate")).decode(), check=False)
    return done.returncode != 0


# In place of systemctl: kills the agent, whose child it is, before or after the call of that number.
_COUNTING = """#!/bin/sh
echo >> /tmp/calls
now=$(wc -l < /tmp/calls)
[ "$now.$WHEN" = "$NUMBER.before" ] && kill -9 $PPID && exit 1
PATH=/usr/bin:/bin systemctl "$@"
status=$?
[ "$now.$WHEN" = "$NUMBER.after" ] && kill -9 $PPID
exit $status
"""


def test_a_host_that_leaves_the_fleet_runs_nothing_any_more(box: Machine) -> None:
    go(box, FIRST)

    report = go(box, Generation({}, target=False))

    assert set(report.changed) == {(A, "removed"), (B, "removed"), ("cortexd.target", "removed")}
    left = box.run(["sh", "-c", "ls -R /etc/systemd/system | grep -E 'cortexd|neuron@' || true"]).stdout
    assert [box.show(unit, "ActiveState") for unit in (A, B)] == ["inactive"] * 2 and left == ""


def test_what_crashed_and_came_back_by_itself_is_not_restarted_again(box: Machine) -> None:
    go(box, FIRST)
    box.run(["systemctl", "kill", "-s", "KILL", A])
    box.run(["sh", "-c", f"until systemctl is-active -q {A}; do sleep 0.05; done"])
    a, b = pids(box, A, B)

    report = go(box, FIRST)

    assert report.changed == () and pids(box, A, B) == [a, b]


def test_drift_is_seen_and_the_next_activation_puts_it_right(box: Machine) -> None:
    go(box, FIRST)
    a = box.show(A, "MainPID")
    box.write(f"/etc/systemd/system/{B}", "[Service]\nExecStart=/bin/sleep 1000\n")
    box.run(["systemctl", "stop", A])

    seen = ask(box, FIRST.order("observe")).problems
    report = go(box, FIRST)

    assert any(p.startswith(f"/etc/systemd/system/{B} is not what was applied") for p in seen)
    assert any(p.startswith(f"{A} is inactive") for p in seen)
    assert dict(report.changed) == {A: "started", B: "restarted"}
    assert box.show(A, "MainPID") != a
    assert ask(box, FIRST.order("observe")).problems == ()


def test_whatever_observe_calls_a_problem_an_activation_puts_right(box: Machine) -> None:
    go(box, FIRST)
    a, b = pids(box, A, B)
    box.run(["systemctl", "disable", A, "cortexd.target"])
    box.run(["rm", "/etc/tmpfiles.d/cortexd.conf"])
    box.run(["sh", "-c", f"sleep 1.1; touch /etc/systemd/system/{B}"])  # systemd's clock of files has coarse seconds
    box.write("/etc/systemd/system/neuron@a.service.d/own.conf", "[Service]\nNice=1\n")

    seen = ask(box, FIRST.order("observe"))
    report = ask(box, FIRST.order("activate"))
    after = ask(box, FIRST.order("observe"))

    expected = [
        f"{A} is disabled",
        f"{B} changed on disk",
        "cortexd.target is disabled",
        "/etc/tmpfiles.d/cortexd.conf is",
    ]
    for text in expected:
        assert any(problem.startswith(text) for problem in seen.problems), (text, seen.problems)
    assert report.changed == () and after.problems == ()
    assert pids(box, A, B) == [a, b]
    assert after.detail["altered"] == [f"{A} is altered by /etc/systemd/system/neuron@a.service.d/own.conf"]


def test_a_host_without_the_programs_is_refused_before_anything_changes(box: Machine) -> None:
    box.run(["rm", f"{PREFIX}/bin/neuron"])

    done = box.run(
        [f"{PREFIX}/bin/cortexd", "host", "prepare"], input=encode_order(FIRST.order("prepare")).decode(), check=False
    )

    assert done.returncode == 1
    assert "box: /opt/cortexd/bin/neuron is not there: install cortexd" in done.stderr
    assert not box.path("/var/lib/cortexd/generations").exists()


def test_a_program_of_another_release_is_named_with_both_versions(box: Machine) -> None:
    box.write(f"{PREFIX}/bin/neuron", "#!/bin/sh\necho neuron, version 9.9\n", mode=0o755)

    done = box.run(
        [f"{PREFIX}/bin/cortexd", "host", "prepare"], input=encode_order(FIRST.order("prepare")).decode(), check=False
    )

    assert "/opt/cortexd/bin/neuron is 9.9, the one that asks is" in done.stderr
