"""Which hash a unit runs with, after every place where an agent may have been killed."""

from __future__ import annotations

from pathlib import Path

from cortexd.deploy.host.activate import decide
from cortexd.deploy.host.hostfile import Unit
from cortexd.deploy.host.layout import Layout, layout_of
from cortexd.deploy.host.protocol import Order
from cortexd.deploy.host.running import UNKNOWN, Running, load_running, save_running

SOCKET, GATEWAY, NEURON, TARGET = (
    "cortexd-gateway.socket",
    "cortexd-gateway.service",
    "neuron@a.service",
    "cortexd.target",
)
OLD = dict.fromkeys((SOCKET, GATEWAY, NEURON, TARGET), "old")


def units(changed: str | None = None) -> tuple[Unit, ...]:
    names = (NEURON, SOCKET, GATEWAY, TARGET)
    return tuple(Unit(n, n.rpartition(".")[2], "new" if n == changed else "old", None) for n in names)


def shown(other: str | None = None, state: str = "active") -> dict[str, dict[str, str]]:
    return {name: {"ActiveState": state if name == other else "active", "InvocationID": f"i-{name}"} for name in OLD}


SETTLED = Running(OLD)


def test_what_starts_while_files_are_in_place_runs_with_them() -> None:
    assert SETTLED.hash_of(NEURON, "any") == "old"
    assert SETTLED.hash_of(NEURON, "") is None


def test_killed_before_the_files_are_in_place_the_old_ones_keep_their_hash_and_new_ones_are_unknown() -> None:
    running = SETTLED.before_change({NEURON: "i1", GATEWAY: ""})

    assert running.hash_of(NEURON, "i1") == "old"
    assert running.hash_of(NEURON, "i2") == UNKNOWN
    assert running.hash_of(GATEWAY, "i1") == UNKNOWN


def test_killed_between_restarts_only_the_rest_is_restarted() -> None:
    invocations = {NEURON: "i1", GATEWAY: "i1"}
    running = SETTLED.before_change(invocations).after_change(invocations, {**OLD, NEURON: "new", GATEWAY: "new"})

    assert running.hash_of(NEURON, "i1") == "old"  # still to be restarted
    assert running.hash_of(GATEWAY, "i2") == "new"  # was restarted


def test_what_started_by_itself_in_between_is_restarted() -> None:
    running = SETTLED.before_change({NEURON: "i1"}).after_change({NEURON: "i2"}, {**OLD, NEURON: "new"})

    assert running.hash_of(NEURON, "i2") == UNKNOWN


def test_back_to_the_old_one_leaves_alone_what_was_never_restarted() -> None:
    there = SETTLED.before_change({NEURON: "i1"}).after_change({NEURON: "i1"}, {**OLD, NEURON: "new"})
    back = there.before_change({NEURON: "i1"}).after_change({NEURON: "i1"}, OLD)

    assert back.hash_of(NEURON, "i1") == "old"


def test_the_record_survives_the_disk_and_a_broken_one_is_as_none(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    running = SETTLED.before_change({NEURON: "i1"}).after_change({NEURON: "i1"}, OLD)

    save_running(layout, running)
    assert load_running(layout) == running
    for text in ("", "[]", "{}", '{"loaded": 3, "known": {}}', '{"loaded": null, "known": {"a": 1}}'):
        (tmp_path / "started.json").write_text(text)
        assert load_running(layout) == Running()


def _layout(state: Path) -> Layout:
    return layout_of(Order("observe", "box", "files", str(state), "aa"))


def test_nothing_happens_when_all_run_with_their_hash() -> None:
    steps = decide(units(), shown(), SETTLED)

    assert (steps.stop, steps.restart, steps.start, steps.verbs) == ((), (), (), ())


def test_a_service_restarts_alone_and_its_socket_stays() -> None:
    steps = decide(units(GATEWAY), shown(), SETTLED)

    assert (steps.stop, steps.restart) == ((), (GATEWAY,))


def test_a_changed_socket_is_bound_anew_while_its_service_is_stopped() -> None:
    steps = decide(units(SOCKET), shown(), SETTLED)

    assert steps.stop == (GATEWAY, SOCKET)
    assert steps.restart == (SOCKET, GATEWAY)
    assert dict(steps.verbs) == {SOCKET: "restarted", GATEWAY: "restarted"}


def test_a_socket_that_does_not_listen_is_started_while_its_service_is_stopped() -> None:
    steps = decide(units(), shown(SOCKET, "failed"), SETTLED)

    assert steps.stop == (GATEWAY,)
    assert dict(steps.verbs) == {SOCKET: "started", GATEWAY: "restarted"}


def test_a_target_is_never_restarted_only_started() -> None:
    assert decide(units(TARGET), shown(), SETTLED).verbs == ()
    steps = decide(units(), shown(TARGET, "inactive"), SETTLED)
    assert (steps.restart, steps.start) == ((), (TARGET,))


def test_what_failed_or_was_stopped_is_started() -> None:
    for state in ("failed", "inactive", "deactivating"):
        steps = decide(units(), shown(NEURON, state), SETTLED)
        assert steps.verbs == ((NEURON, "started"),)
