"""plan says what would change and what it costs; apply refuses a plan that is stale, and mass deletion."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compiler.plan import NOTHING
from cortexd.cli import cli
from cortexd.deploy.apply import apply
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.generation import load_generation
from cortexd.deploy.planning import check, make_plan, plan_json, read_plan_file
from cortexd.deploy.price import ModelMove, UnitChange, price_of
from tests.cortexd.deploy.conftest import FLEET, MODELS, THERE, Hosts, Place, live, state, unreachable

FOUR = "".join(f'[[models]]\nid = "m{i}"\nsource = "path:artifacts/chat"\ntask = "chat"\n' for i in range(4))
LAB = FLEET + '[[accounts]]\nname = "lab"\n'
KEYS = "".join(f'[[keys]]\nid = "k{i}"\naccount = "lab"\nsecret_sha256 = "{str(i) * 64}"\n' for i in range(4))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments), env={"COLUMNS": "200"})


def test_plan_exits_2_with_changes_and_0_with_none_and_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    place.compile(2)
    first = run("plan")
    assert (first.exit_code, place.var.exists()) == (2, False)
    assert "+ model chat" in first.output and "+ file here:control.toml" in first.output
    assert "start neuron@local.service on here" in first.output
    run("apply")
    before = state(place.var)
    same = run("plan")
    place.compile(3)
    other = run("plan")

    assert (same.exit_code, "nothing to do" in same.output) == (0, True)
    assert other.exit_code == 2
    assert "~ settings of the fleet: settings.gateway.workers 2 -> 3" in other.output
    assert "~ file here:control.toml\n    -workers = 2\n    +workers = 3\n" in other.output
    assert "restart cortexd-gateway.service on here" in other.output
    assert "restart neuron@local.service" not in other.output
    assert state(place.var) == before


def test_what_was_changed_on_a_host_is_planned_to_be_put_right(place: Place, hosts: Hosts) -> None:
    folder = place.compile(2, fleet=FLEET + THERE)
    apply(folder, place.site, settings=hosts.settings())
    (hosts.state("there") / "etc" / "neurons" / "far.toml").unlink()

    made = make_plan(load_generation(folder), place.site, hosts.connect)
    hosts.trouble["there", "observe"] = unreachable("there")
    blind = make_plan(load_generation(folder), place.site, hosts.connect)

    assert made.repairs == ("there:neurons/far.toml: it is missing",) and not made.nothing
    assert blind.nothing and "connection refused" in blind.warnings[0]


def test_a_plan_of_an_older_schema_shows_what_it_will_be_and_migrates_nothing(place: Place) -> None:
    folder = place.compile(2)
    apply(folder, place.site)
    with closing(sqlite3.connect(place.var / "state.db")) as db, db:
        db.execute("ALTER TABLE key DROP COLUMN settings")
        db.execute("ALTER TABLE key DROP COLUMN secret_ref")
        for column in ("kind", "state", "finished_at", "error"):
            db.execute(f"ALTER TABLE apply_history DROP COLUMN {column}")
        db.execute("DROP TABLE account")
        db.execute("DROP TABLE memory_observation")
        db.execute("UPDATE alembic_version SET version_num = '0001'")
    before = state(place.var)

    made = make_plan(load_generation(folder), place.site)

    assert made.base.generation == folder.name and made.changes == ()
    assert state(place.var) == before


def test_a_plan_file_holds_only_for_what_it_was_made_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    one, two, three = place.compile(2), place.compile(3), place.compile(4)
    run("apply", str(one))
    assert run("plan", str(two), "--out", "two.plan").exit_code == 2
    other = run("apply", str(three), "--plan", "two.plan")
    assert other.exit_code == 1 and f"it was made for generation {two.name[:12]}" in other.output
    assert live(place.var) == one.name

    good = run("apply", "--plan", "two.plan")
    stale = run("apply", "--plan", "two.plan")

    assert good.exit_code == 0 and live(place.var) == two.name, "found in the build folder by its hash"
    assert stale.exit_code == 1 and "stale" in stale.output and "version 1 (" in stale.output
    assert "now it is version 2" in stale.output
    Path("bad.plan").write_text("[]")
    for name, said in (("bad.plan", "is no plan file"), ("none.plan", "none.plan: No such file")):
        refused = run("apply", "--plan", name)
        assert refused.exit_code == 1 and said in refused.output


def test_somebody_else_who_applies_in_between_is_not_overrun(place: Place, hosts: Hosts) -> None:
    """Two gateway hosts on one PostgreSQL have no lock file in common; the version says it."""
    one, two, three = place.compile(2), place.compile(3), place.compile(4)
    apply(one, place.site)

    def meanwhile(step: str) -> None:
        if step == "intend":
            with closing(sqlite3.connect(place.var / "state.db")) as db, db:
                db.execute("UPDATE live SET version = 7")

    with pytest.raises(ApplyError, match="somebody else applied meanwhile: the live version is 7"):
        apply(two, place.site, settings=hosts.settings(after=meanwhile))

    assert live(place.var) == one.name
    apply(three, place.site)
    assert live(place.var) == three.name


@pytest.mark.parametrize(
    ("models", "fleet", "said"),
    [
        (FOUR.replace("m1", "n1").replace("m2", "n2").replace("m3", "n3"), LAB + KEYS, "3 of 4 models"),
        (FOUR, LAB, "every key"),
        (FOUR, LAB + KEYS.partition('[[keys]]\nid = "k1"')[0], "3 of 4 keys"),
    ],
)
def test_mass_deletion_needs_force(place: Place, models: str, fleet: str, said: str) -> None:
    apply(place.compile(2, FOUR, LAB + KEYS), place.site)
    before = state(place.var)
    less = place.compile(2, models, fleet)

    with pytest.raises(ApplyError, match=f"deletes {said}; nothing was changed; .*--force"):
        apply(less, place.site)

    assert state(place.var) == before
    assert make_plan(load_generation(less), place.site).mass
    assert apply(less, place.site, force=True).version == 2


def test_half_of_the_models_may_go_without_force(place: Place) -> None:
    apply(place.compile(2, FOUR), place.site)

    assert apply(place.compile(2, FOUR.replace("m1", "n1").replace("m2", "n2")), place.site).version == 2


PLACEMENT = {"model": "a", "neuron": "n", "devices": ["d"], "rank": 0, "pinned": False, "reason": ""}
SHAPE = {"id": "a", "artifact": "x", "manifest_sha256": "1", "context": 8, "max_sequences": 1}
BEFORE: Any = NOTHING | {"placement": (PLACEMENT,), "model": (SHAPE,)}
RESIDENT = [{"neuron": "n", "model": "a", "in_flight": 3}, {"neuron": "m", "model": "b", "in_flight": 2}]
BOTH: Any = BEFORE | {
    "placement": (PLACEMENT, PLACEMENT | {"model": "b", "neuron": "m"}),
    "model": (SHAPE, SHAPE | {"id": "b"}),
}
UNITS = {"h": {"neuron@n.service": "1", "neuron@m.service": "1", "cortexd-gateway.service": "1"}}


def changed(unit: str) -> Any:
    return {"h": UNITS["h"] | {unit: "2"}}


def test_nothing_that_changes_costs_nothing() -> None:
    price = price_of(BOTH, BOTH, UNITS, UNITS, RESIDENT)

    assert (price.units, price.models, price.streams, price.downtime) == ((), (), 0, "none")


def test_a_neuron_that_restarts_costs_its_residents_and_their_streams() -> None:
    price = price_of(BOTH, BOTH, UNITS, changed("neuron@n.service"), RESIDENT)

    assert price.units == (UnitChange("h", "neuron@n.service", "restart"),)
    assert price.models == (ModelMove("a", "n", "reload", 3),)
    assert (price.streams, price.downtime) == (3, "drain")


def test_a_gateway_that_restarts_drains_every_stream_but_moves_no_model() -> None:
    price = price_of(BOTH, BOTH, UNITS, changed("cortexd-gateway.service"), RESIDENT)

    assert (price.models, price.streams, price.downtime) == ((), 5, "drain")


def test_a_placement_that_goes_unloads_and_a_pinned_one_that_comes_loads() -> None:
    after: Any = BOTH | {"placement": (PLACEMENT, PLACEMENT | {"model": "b", "neuron": "n", "pinned": True})}
    price = price_of(BOTH, after, UNITS, UNITS, RESIDENT)

    assert price.models == (ModelMove("b", "m", "unload", 2), ModelMove("b", "n", "load", 0))
    assert price.streams == 2


def test_a_resident_whose_shape_changes_is_loaded_anew_and_a_neuron_that_goes_is_stopped() -> None:
    after: Any = BOTH | {"model": (SHAPE | {"context": 16}, SHAPE | {"id": "b"})}
    price = price_of(BOTH, after, UNITS, {"h": {"neuron@n.service": "1"}}, RESIDENT)

    assert [(u.unit, u.verb) for u in price.units] == [
        ("neuron@m.service", "stop"),
        ("cortexd-gateway.service", "stop"),
    ]
    assert [(m.model, m.verb) for m in price.models] == [("b", "unload"), ("a", "reload")]


def test_no_secret_is_in_a_plan(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    apply(place.compile(2, MODELS, LAB + KEYS), place.site)
    changed_keys = KEYS.replace("1" * 64, "a" * 64)
    folder = place.compile(2, MODELS, LAB + changed_keys)
    plan, as_json = run("plan", str(folder)), run("plan", str(folder), "--json")

    assert "~ key k1: secret_hash" in plan.output
    for text in (plan.output, as_json.output):
        assert "a" * 64 not in text and "1" * 64 not in text
    assert json.loads(as_json.stdout)["changes"] == [
        {"action": "update", "table": "key", "key": ["k1"], "columns": {"secret_hash": [None, None]}}
    ]


def test_a_password_in_a_database_url_is_not_shown() -> None:
    from cortexd.cli.show import _difference
    from cortexd.deploy.planning import FileChange

    def file(password: str, host: str) -> bytes:
        return f'url = "postgresql+psycopg://cortexd:{password}@{host}/cortexd"\n'.encode()

    moved = list(_difference(FileChange("here", "control.toml", "update", file("s3cret", "a"), file("0ther", "b"))))
    same = list(_difference(FileChange("here", "control.toml", "update", file("s3cret", "a"), file("0ther", "a"))))

    assert moved == [f'{sign}url = "postgresql+psycopg://cortexd:***@{host}/cortexd"' for sign, host in ("-a", "+b")]
    assert same == ["@ a secret in it changes"]


def test_check_accepts_a_plan_that_still_holds(place: Place) -> None:
    made = make_plan(load_generation(place.compile()), place.site)
    path = place.folder / "a.plan"
    path.write_text(json.dumps(plan_json(made)))

    check(made, read_plan_file(path), force=False)
