"""rollback gives former rows and files back exactly; history tells what happened."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortexd.cli import cli
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import archived
from cortexd.deploy.history import target, way_back
from cortexd.deploy.rollback import rollback
from cortexd.deploy.rows import Switched
from cortexd.deploy.settings import Settings
from cortexd.settings import SettingsError
from tests.compiler.artifacts import make_all
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
)

_NAME = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[int, str, str]:
    """Workers, models and fleet: some models with lifetimes, aliases, a second host, keys of an account."""
    names = draw(st.lists(_NAME, min_size=1, max_size=3, unique=True))
    models = ""
    for name in names:
        kind, ttl = draw(st.sampled_from(["chat", "embed"])), draw(st.integers(1, 999))
        models += f'[[models]]\nid = "{name}"\nsource = "path:artifacts/{kind}"\ntask = "{kind}"\nidle_ttl_s = {ttl}\n'
    aliases = draw(st.lists(_NAME.filter(lambda n: n not in names), max_size=2, unique=True))
    models += "[aliases]\n" + "".join(f'{alias} = "{draw(st.sampled_from(names))}"\n' for alias in aliases)
    fleet = FLEET + (THERE if draw(st.booleans()) else "")
    if draw(st.booleans()):
        fleet += f'[[accounts]]\nname = "{draw(_NAME)}"\n'
    return draw(st.integers(1, 8)), models, fleet


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=fleets(), second=fleets())
def test_apply_one_apply_another_roll_back_gives_the_first_row_for_row_and_byte_for_byte(
    first: tuple[int, str, str], second: tuple[int, str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_all(Path(folder))
        place, hosts = Place(Path(folder)), Hosts(Path(folder))
        one, two = place.compile(*first), place.compile(*second)
        apply(one, place.site, settings=hosts.settings())
        rows, here, there = desired(place.var), files(place.var), files(hosts.state("there"))
        apply(two, place.site, force=True, settings=hosts.settings())
        assert (live(place.var), files(place.var)) == (two.name, compiled(two, "here"))
        if one != two:
            rollback(place.site, force=True, settings=hosts.settings())

        assert desired(place.var) == rows
        assert files(place.var) == here == compiled(one, "here")
        assert (files(hosts.state("there")) if there else {}) == there


def test_rollbacks_undo_one_apply_after_the_other(place: Place) -> None:
    made = [place.compile(workers) for workers in (1, 2, 3, 4)]
    for folder in made:
        apply(folder, place.site)

    for folder in reversed(made[:-1]):
        assert rollback(place.site).generation == folder.name
    with pytest.raises(ApplyError, match="no earlier applies to go back to, not 1"):
        rollback(place.site)
    apply(made[3], place.site)
    assert rollback(place.site).generation == made[0].name
    assert rollback(place.site, to=made[2].name[:8]).generation == made[2].name
    assert live(place.var) == current(place.var) == made[2].name


def test_a_rollback_does_not_need_the_build_folder(place: Place) -> None:
    one, two = place.compile(2), place.compile(3)
    want = compiled(one, "here")
    apply(one, place.site)
    apply(two, place.site)
    shutil.rmtree(place.folder / "build")

    assert rollback(place.site).version == 3
    assert files(place.var) == want


def test_the_last_generations_are_kept_and_older_ones_go_everywhere(place: Place) -> None:
    made = [place.compile(workers) for workers in range(1, 6)]
    for folder in made:
        apply(folder, place.site, settings=Settings(keep=2))

    names = {folder.name for folder in made[2:]}
    assert {p.name for p in (place.var / "archive").iterdir()} == names
    assert {p.name for p in (place.var / "generations").iterdir()} == names
    assert rollback(place.site, 2).generation == made[2].name
    with pytest.raises(ApplyError, match=r"is not kept in .*archive; compile it from its sources"):
        rollback(place.site, to=made[0].name)


def test_a_kept_generation_that_was_changed_is_refused(place: Place) -> None:
    one, two = place.compile(2), place.compile(3)
    apply(one, place.site)
    apply(two, place.site)
    path = archived(place.site, one.name) / "hosts/here/control.toml"
    path.write_text(path.read_text().replace("workers = 2", "workers = 9"))

    with pytest.raises(ApplyError, match=r"control\.toml is not what was compiled"):
        rollback(place.site)

    assert live(place.var) == current(place.var) == two.name


def test_before_anything_was_applied_it_is_a_sentence(place: Place) -> None:
    with pytest.raises(SettingsError, match="`cortexd apply` writes it"):
        rollback(place.site)


def entry(version: int, generation: str, kind: str = "apply", state: str = "live") -> Switched:
    return Switched(version, version, None, generation, kind, state, version, None)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], []),
        ([entry(1, "a")], []),
        ([entry(1, "a"), entry(2, "b"), entry(3, "c")], ["b", "a"]),
        ([entry(1, "a"), entry(2, "b"), entry(3, "a", "rollback")], []),
        ([entry(1, "a"), entry(2, "b"), entry(3, "a", "rollback"), entry(4, "c")], ["a"]),
        ([entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "c")], ["a", "b", "a"]),
        ([entry(1, "a"), entry(2, "b", "apply", "failed"), entry(3, "a", "return")], []),
        ([entry(1, "a"), entry(2, "b"), entry(3, "c", "apply", "failed"), entry(4, "b", "return")], ["a"]),
        ([entry(1, "a", "apply", "failed")], []),
    ],
)
def test_the_way_back_is_that_of_undo(history: list[Switched], expected: list[str]) -> None:
    assert way_back(history) == expected


def test_a_prefix_must_mean_one_generation() -> None:
    history = [entry(1, "ab1"), entry(2, "ab2"), entry(3, "c")]

    assert target(history, 1, "AB1") == "ab1"
    with pytest.raises(ApplyError, match="begins the hash of 2 applied generations: name more of it"):
        target(history, 1, "ab")
    with pytest.raises(ApplyError, match="no applied generation; `cortexd history` lists them"):
        target(history, 1, "d")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments), env={"COLUMNS": "200"})


def test_the_commands_tell_what_was_done(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    one, two = place.compile(2), place.compile(3)
    for folder in (one, two):
        assert run("apply", str(folder)).exit_code == 0
    back, far = run("rollback"), run("rollback", "7")
    shown, listed = run("history"), json.loads(run("history", "--json").stdout)
    again = json.loads(run("apply", str(two), "--json").stdout)

    assert back.exit_code == 0, back.output
    assert "~ settings of the fleet: settings.gateway.workers 3 -> 2" in back.output
    assert f"generation {one.name[:12]} is live in var (rollback 3, before it {two.name[:12]})" in back.output
    assert far.exit_code == 1 and "no earlier applies to go back to, not 7" in far.output
    assert [line.split()[0] for line in shown.output.splitlines()] == ["VERSION", "3", "2", "1"]
    assert [(e["version"], e["kind"], e["state"], e["generation"]) for e in listed] == [
        (1, "apply", "live", one.name),
        (2, "apply", "live", two.name),
        (3, "rollback", "live", one.name),
    ]
    assert (again["version"], again["previous"], again["kind"]) == (4, one.name, "apply")
    assert again["changes"][0]["action"] == "update"
    assert query(place.var, "SELECT count(*) FROM apply_history WHERE finished_at >= applied_at") == [(4,)]


def test_why_an_apply_failed_is_told_in_one_line_without_control_characters(
    place: Place, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    hosts.trouble["here", "ready"] = "neuron@local.service failed; it wrote last:\n    \x1b[0;93mno device\x1b[m\x07"
    with pytest.raises(ApplyError):
        apply(place.compile(), place.site, settings=hosts.settings())

    shown, listed = run("history"), json.loads(run("history", "--json").stdout)

    assert shown.output.splitlines()[-1] == (
        "version 1 failed: here: neuron@local.service failed; it wrote last: … (--json has all of it)"
    )
    assert listed[0]["error"] == "here: neuron@local.service failed; it wrote last:\n    no device"
