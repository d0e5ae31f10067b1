"""drift names each difference between what was applied and what is there."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from compiler.plan import NOTHING
from compiler.rows import generation_hash
from cortexd import __version__
from cortexd.cli import cli
from cortexd.deploy.apply import apply
from cortexd.deploy.drift import _rows, drift
from cortexd.deploy.errors import ApplyError
from cortexd.deploy.files import archived
from cortexd.deploy.generation import load_generation
from cortexd.deploy.neurons import Said, neuron_differences
from cortexd.deploy.rows import Situation, check_columns
from cortexd.settings import SettingsError
from tests.cortexd.deploy.conftest import FLEET, MODELS, THERE, Hosts, Place, unreachable

DEVICE = {"index": 0, "name": "cpu-0", "kind": "cpu", "vram_total_mb": 6144}


class Neuron:
    """A server that answers what a neuron answers; ``answers`` may be changed, ``seen`` are the authorizations."""

    def __init__(self, models: list[dict[str, Any]]) -> None:
        self.answers: dict[str, Any] = {
            "/version": {"package_version": __version__},
            "/discovery": {"devices": [DEVICE]},
            "/models": models,
        }
        self.seen: list[str | None] = []
        self.port = 0


@contextmanager
def serving(neuron: Neuron) -> Iterator[Neuron]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            neuron.seen.append(self.headers.get("authorization"))
            body = json.dumps(neuron.answers[self.path]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    neuron.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield neuron
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def neuron() -> Iterator[Neuron]:
    with serving(Neuron([{"id": "chat", "status": "unloaded", "pinned": False, "error": None}])) as served:
        yield served


def fleet(neuron: Neuron, extra: str = "") -> str:
    return FLEET.replace("13131", str(neuron.port)) + extra


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments), env={"COLUMNS": "200"})


def told(place: Place, hosts: Hosts | None = None) -> list[str]:
    found = drift(place.site, hosts.connect) if hosts else drift(place.site)
    return [f"{d.kind} {d.where}: {d.what}" for d in found.differences]


def test_a_fleet_as_applied_has_none(place: Place, neuron: Neuron, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    apply(place.compile(2, fleet=fleet(neuron)), place.site)
    shown, listed = run("drift"), run("drift", "--json")

    assert (shown.exit_code, "no drift" in shown.output) == (0, True), shown.output
    assert listed.exit_code == 0 and json.loads(listed.stdout)["differences"] == []


def test_a_row_that_was_changed_is_named(place: Place, neuron: Neuron, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    apply(place.compile(2, fleet=fleet(neuron)), place.site)
    with closing(sqlite3.connect(place.var / "state.db")) as db, db:
        db.execute("UPDATE model SET context = 17")
        db.execute("DELETE FROM alias")
    shown = run("drift")

    assert shown.exit_code == 2
    assert "~ model chat: context 131072 -> 17" in shown.output
    assert "- alias default" in shown.output and "apply another generation, or restore the row" in shown.output


def test_a_column_that_a_newer_release_added_is_no_drift(place: Place) -> None:
    now = load_generation(place.compile())
    without = tuple({k: v for k, v in row.items() if k != "kv_bytes"} for row in now.tables["model"])
    tables = {**now.tables, "model": without}
    older = replace(now, tables=tables, hash=generation_hash(tables, now.files))
    changed = {**now.tables, "model": tuple({**row, "context": 17} for row in now.tables["model"])}

    assert _rows(Situation(older.hash, 1, now.tables, None), older) == []
    (found,) = _rows(Situation(older.hash, 1, changed, None), older)
    assert "context 131072 -> 17" in found.what
    with pytest.raises(ApplyError, match=r"another release \(its model rows have other columns\); compile it again"):
        check_columns(older)


def test_files_that_were_changed_are_named_on_every_host(place: Place, hosts: Hosts, neuron: Neuron) -> None:
    both = fleet(neuron, THERE.replace("127.0.0.2:13131", f"127.0.0.1:{neuron.port}"))
    apply(place.compile(2, fleet=both), place.site, settings=hosts.settings())
    assert told(place, hosts) == []
    (place.var / "etc" / "control.toml").write_text("changed")
    (place.var / "etc" / "extra").write_text("new")
    (hosts.state("there") / "etc" / "neurons" / "far.toml").unlink()

    assert told(place, hosts) == [
        "file here:control.toml: its content was changed",
        "file here:extra: nobody compiled it",
        "file there:neurons/far.toml: it is missing",
    ]
    hosts.trouble["there", "observe"] = unreachable("there")
    assert "host there: there (ssh there.example): connection refused: start sshd there" in told(place, hosts)


def test_a_link_to_another_generation_is_named(place: Place, neuron: Neuron) -> None:
    one, two = place.compile(2, fleet=fleet(neuron)), place.compile(3, fleet=fleet(neuron))
    for folder in (one, two):
        apply(folder, place.site)
    (place.var / "etc").unlink()
    (place.var / "etc").symlink_to(f"generations/{one.name}")

    assert told(place) == [f"file here:etc: it points to {one.name[:12]}, not to {two.name[:12]}"]


def test_what_a_neuron_says_of_itself_is_compared(place: Place, neuron: Neuron) -> None:
    pinned = MODELS.replace('task = "chat"', 'task = "chat"\npinned = true')
    apply(place.compile(2, pinned, fleet(neuron)), place.site)
    neuron.answers |= {
        "/version": {"package_version": "0.0.0"},
        "/discovery": {"devices": [DEVICE | {"vram_total_mb": 1024, "kind": "cuda"}, DEVICE | {"name": "cpu-1"}]},
        "/models": [{"id": "chat", "status": "failed", "error": "no space"}, {"id": "other", "status": "loaded"}],
    }

    assert told(place) == [
        f"neuron local: it is version 0.0.0, the control plane {__version__}",
        "neuron local: device cpu-0 is cuda, not cpu",
        "neuron local: device cpu-0 has 1024 MiB, 6144 are declared",
        "neuron local: it has a device cpu-1, which is not declared",
        "neuron local: pinned model chat is failed, not loaded: no space",
        "neuron local: it serves model other, which is not placed there",
    ]


def test_a_neuron_that_is_down_or_is_none_is_named(place: Place, neuron: Neuron) -> None:
    apply(place.compile(2, fleet=fleet(neuron)), place.site)
    neuron.answers["/models"] = {"unexpected": True}
    (strange,) = told(place)
    with serving(Neuron([])) as other:
        apply(place.compile(3, fleet=fleet(other)), place.site)
    (down,) = told(place)

    assert "did not answer as a neuron does" in strange
    assert "neuron local: it does not answer" in down and "refused" in down


def test_a_token_is_sent_and_a_missing_one_is_named(place: Place, neuron: Neuron) -> None:
    secured = fleet(neuron).replace('host = "here"', 'host = "here"\ntoken_file = "TOKEN"')
    secured = secured.replace("TOKEN", str(place.folder / "local.token"))
    apply(place.compile(2, fleet=secured), place.site)
    (missing,) = told(place)
    (place.folder / "local.token").write_text("t0ken\n")

    assert "its token file" in missing and "local.token: No such file" in missing
    assert told(place) == [] and neuron.seen == ["Bearer t0ken"] * 3


def test_a_missing_archive_and_an_unfinished_apply_are_named(place: Place, hosts: Hosts, neuron: Neuron) -> None:
    folder = place.compile(2, fleet=fleet(neuron))
    hosts.trouble["here", "ready"] = "broken"
    with pytest.raises(ApplyError):
        apply(folder, place.site, settings=hosts.settings())
    path = archived(place.site, folder.name)
    path.rename(path.with_name("elsewhere"))

    unfinished, missing = told(place)

    assert "the last apply is failed" in unfinished and "is not kept" in missing


def test_what_a_host_finds_wrong_with_its_units_is_named(place: Place, neuron: Neuron, hosts: Hosts) -> None:
    apply(place.compile(2, fleet=fleet(neuron)), place.site)
    hosts.trouble["here", "observe"] = "neuron@local.service is altered by /etc/systemd/system/neuron@.service.d/x.conf"

    (told_,) = drift(place.site, hosts.connect).differences

    assert (told_.kind, told_.where, told_.remedy) == ("unit", "here", "run `cortexd apply` again")
    assert "is altered by" in told_.what


def test_a_model_that_is_another_artifact_is_named() -> None:
    tables: Any = NOTHING | {
        "model": ({"id": "a", "manifest_sha256": "1"},),
        "placement": ({"model": "a", "neuron": "n", "pinned": True},),
    }

    def said(**model: Any) -> list[str]:
        models = ({"id": "a", **model},) if model else ()
        return [what for what, _ in neuron_differences(Said("n", __version__, (), models), tables)]

    assert said(status="loaded", manifest_sha256="1") == []
    assert said(status="loaded", manifest_sha256="2") == ["model a is another artifact than compiled"]
    assert said(status="loading") == ["pinned model a is still loading"]
    assert said() == ["it does not know model a"]


def test_before_anything_was_applied_it_is_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    with pytest.raises(SettingsError):
        drift(place.site)
    shown = run("drift")

    assert shown.exit_code == 1 and "`cortexd apply` writes it" in shown.output
    assert not Path("var").exists()
