"""SIGKILL after every step of apply, of rollback and of the way back, and inside the steps that write."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cortexd.cli import cli
from cortexd.deploy import rows, steps
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError, NotReady
from cortexd.deploy.files import INTENT
from cortexd.deploy.host import staging
from cortexd.deploy.recover import recover_at_start
from cortexd.deploy.rollback import rollback
from tests.cortexd.deploy.conftest import (
    FLEET,
    THERE,
    Hosts,
    Place,
    compiled,
    current,
    desired,
    die,
    files,
    in_child,
    live,
    query,
    workers,
)

NAMES = [name for name, _ in steps.STEPS]
BACK = ["back-commit", *(name for name, _ in steps.BACK)]
COMMITTED = NAMES[NAMES.index("commit") :]


def killing(name: str) -> Callable[[str], None]:
    return lambda done: die() if done == name else None


def whole(place: Place, *folders: Path | None) -> None:
    """Rows and files are each of one of these generations (None: nothing yet), and the files are all there."""
    names = {folder.name if folder else None for folder in folders}
    assert live(place.var) in names
    at = current(place.var)
    assert at in names
    if at is not None:
        folder = next(f for f in folders if f is not None and f.name == at)
        assert files(place.var) == compiled(folder, "here")


def settled(place: Place, folder: Path) -> None:
    """This generation everywhere, and nothing under way."""
    assert live(place.var) == current(place.var) == folder.name
    assert files(place.var) == compiled(folder, "here")
    assert not (place.var / INTENT).exists()
    assert query(place.var, "SELECT count(*) FROM apply_history WHERE state = 'applying'") == [(0,)]
    assert not [*place.var.glob("generations/.staging-*"), *place.var.glob("archive/.staging-*")]


@pytest.mark.parametrize("step", NAMES)
@pytest.mark.parametrize("first", [True, False], ids=["from_empty", "from_another"])
@pytest.mark.parametrize("then", ["apply", "start"])
def test_an_apply_killed_after_any_step_is_old_or_new_and_is_completed(
    place: Place, hosts: Hosts, step: str, first: bool, then: str
) -> None:
    one = None if first else place.compile(2)
    if one:
        apply(one, place.site)
    two = place.compile(3)

    killed = in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing(step))))

    assert killed == signal.SIGKILL
    whole(place, one, two)
    if then == "start":
        recover_at_start(place.var)
        expected = two if step in COMMITTED else one
        assert live(place.var) == current(place.var) == (expected.name if expected else None)
        assert not (place.var / INTENT).exists()
    apply(two, place.site)
    settled(place, two)
    history = query(place.var, "SELECT generation, kind, state FROM apply_history ORDER BY version")
    assert history == [(folder.name, "apply", "live") for folder in (one, two) if folder]
    assert apply(two, place.site).nothing


@pytest.mark.parametrize("step", NAMES)
def test_a_rollback_killed_after_any_step_is_old_or_new_and_is_completed(place: Place, hosts: Hosts, step: str) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    before = desired(place.var)
    apply(two, place.site)

    killed = in_child(lambda: rollback(place.site, settings=hosts.settings(after=killing(step))))

    assert killed == signal.SIGKILL
    whole(place, one, two)
    recover_at_start(place.var)
    settled(place, one if step in COMMITTED else two)
    if step not in COMMITTED:
        rollback(place.site)
        settled(place, one)
    assert desired(place.var) == before
    assert query(place.var, "SELECT kind, state FROM apply_history ORDER BY version")[-1] == ("rollback", "live")
    assert len(query(place.var, "SELECT * FROM apply_history")) == 3


@pytest.mark.parametrize("step", BACK)
def test_the_way_back_killed_after_any_step_is_completed(place: Place, hosts: Hosts, step: str) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    before = desired(place.var)
    hosts.trouble["here", "ready", two.name] = "neuron@local.service does not start"

    killed = in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing(step))))

    assert killed == signal.SIGKILL
    whole(place, one, two)
    recover_at_start(place.var)
    settled(place, one)
    assert desired(place.var) == before
    assert query(place.var, "SELECT generation, kind, state FROM apply_history ORDER BY version") == [
        (one.name, "apply", "live"),
        (two.name, "apply", "failed"),
        (one.name, "return", "live"),
    ]


def test_a_killed_apply_that_would_not_have_become_ready_goes_back_when_it_is_finished(
    place: Place, hosts: Hosts
) -> None:
    one, two, three = place.compile(2), place.compile(3), place.compile(4)
    apply(one, place.site)
    hosts.trouble["here", "ready", two.name] = "broken"
    in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing("activate"))))

    done = apply(three, place.site, settings=hosts.settings())

    settled(place, three)
    assert "did not become ready" in done.notes[0] and done.previous == one.name
    with pytest.raises(NotReady):
        apply(two, place.site, settings=hosts.settings())
    settled(place, three)


def test_two_hosts_are_completed_by_the_next_apply(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2, fleet=FLEET + THERE), place.compile(3, fleet=FLEET + THERE)
    apply(one, place.site, settings=hosts.settings())
    in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing("commit"))))
    assert (live(place.var), current(place.var), current(hosts.state("there"))) == (two.name, one.name, one.name)

    done = apply(two, place.site, settings=hosts.settings())

    assert "was brought to its end" in done.notes[0] and done.version is None
    settled(place, two)
    assert files(hosts.state("there")) == compiled(two, "there")


INSIDE: dict[str, tuple[Any, str]] = {
    "archiving": (steps, "archive"),
    "staging": (staging, "stage"),
    "migrating": (steps, "upgrade"),
    "inserting": (rows, "make_current"),
    "switching": (staging, "switch"),
    "renaming": (Path, "replace"),
    "moving": (Path, "rename"),
    "linking": (Path, "symlink_to"),
}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("first", [True, False], ids=["from_empty", "from_another"])
def test_killed_inside_of_a_step_it_is_old_or_new_and_the_next_apply_completes(
    place: Place, inside: str, moment: str, first: bool
) -> None:
    one = None if first else place.compile(2)
    if one:
        apply(one, place.site)
    two = place.compile(3)

    def work() -> None:
        target, name = INSIDE[inside]
        original = getattr(target, name)

        def wrapped(*arguments: Any) -> None:
            if moment == "after":
                original(*arguments)
            die()

        setattr(target, name, wrapped)
        apply(two, place.site)

    assert in_child(work) == signal.SIGKILL
    whole(place, one, two)
    assert workers(place.var) in ((None if first else 2), 3)
    apply(two, place.site)
    settled(place, two)


def test_a_start_while_an_apply_is_at_work_leaves_it_alone(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    said: list[str | None] = []

    def look(done: str) -> None:
        if done == "commit":
            said.append(recover_at_start(place.var))
            assert current(place.var) == one.name, "it is the apply that switches"

    apply(two, place.site, settings=hosts.settings(after=look))

    assert said == [None]
    settled(place, two)


def test_a_start_without_an_intent_says_nothing_and_touches_nothing(tmp_path: Path) -> None:
    assert recover_at_start(tmp_path / "nowhere") is None
    assert list(tmp_path.iterdir()) == []


def test_a_start_is_not_hindered_by_an_intent_that_cannot_be_read(place: Place) -> None:
    apply(place.compile(), place.site)
    (place.var / INTENT).write_text("{")

    said = recover_at_start(place.var)

    assert said is not None and "could not be finished" in said and "delete it" in said


def test_a_start_with_several_hosts_gives_this_one_its_files_and_leaves_the_rest_to_apply(
    place: Place, hosts: Hosts
) -> None:
    one, two = place.compile(2, fleet=FLEET + THERE), place.compile(3, fleet=FLEET + THERE)
    apply(one, place.site, settings=hosts.settings())
    in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing("commit"))))

    said = recover_at_start(place.var)

    assert said is not None and "run `cortexd apply` again to finish it" in said
    assert (current(place.var), current(hosts.state("there"))) == (two.name, one.name)
    apply(two, place.site, settings=hosts.settings())
    settled(place, two)
    assert files(hosts.state("there")) == compiled(two, "there")


def test_a_start_leaves_units_to_apply(place: Place, hosts: Hosts) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing("commit"))))
    intent = json.loads((place.var / INTENT).read_text())
    (place.var / INTENT).write_text(json.dumps(intent | {"mode": "system"}))

    assert recover_at_start(place.var) == "an apply was interrupted; run `cortexd apply` again to finish it"
    assert current(place.var) == one.name
    with pytest.raises(ApplyError, match="an apply in mode system was interrupted here"):
        apply(two, place.site)


def test_plan_finishes_what_was_interrupted_and_says_so(
    place: Place, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    in_child(lambda: apply(two, place.site, settings=hosts.settings(after=killing("commit"))))

    done = CliRunner().invoke(cli, ["plan", str(two)])

    assert done.exit_code == 0, done.output
    assert f"the last apply was interrupted; generation {two.name[:12]} was brought to its end" in done.output
    settled(place, two)


def test_ctrl_c_says_how_to_go_on(place: Place, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staging, "switch", interrupt)
        done = CliRunner().invoke(cli, ["apply", str(two)])

    assert (
        done.exit_code == 1 and "Error: interrupted; the next `cortexd apply` completes what had begun" in done.output
    )
    assert "brought to its end" in CliRunner().invoke(cli, ["apply", str(two)]).output
    settled(place, two)
