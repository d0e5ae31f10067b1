"""The gateway's queries on a real SQLite database."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, func, insert, select, update

from cortexd import models as t
from cortexd.cli.usage import usage_command
from cortexd.ledger.row import UsageRow
from cortexd.routing.snapshot import EMPTY, KeyRef, KeyView, NeuronView, ResidentView
from cortexd.store import load_requests, snapshot
from cortexd.store.connect import connect
from cortexd.store.usage import Group, insert_rows, report
from tests.cortexd.gateway.conftest import MODEL, fill, healthy


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'state.db'}")
    t.Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_before_the_first_apply_the_snapshot_is_empty(engine: Engine) -> None:
    assert snapshot.load(engine) is EMPTY


def test_a_snapshot_holds_the_live_generation_and_what_was_observed(engine: Engine) -> None:
    fill(str(engine.url), {"n1": "http://one:1/", "n2": "http://two:2"})

    got = snapshot.load(engine)

    assert (got.generation, got.version, got.applied_at) == ("g" * 64, 1, 1700000000.0)
    assert got.neurons["n1"] == NeuronView("n1", "http://one:1", True)
    assert got.models[MODEL].placements == ("n1", "n2") and got.models[MODEL].pinned
    assert got.aliases == {"default": MODEL}
    assert got.residents[MODEL][0] == ResidentView("n1", MODEL, "loaded", 0, 0)
    assert list(got.keys.values()) == [KeyView("k1", "acme")]
    assert snapshot.load(engine) == got


def test_keys_know_their_models_and_where_their_secret_lies(engine: Engine) -> None:
    fill(str(engine.url), {"n1": "http://one:1/"})
    g = "g" * 64
    with engine.begin() as connection:
        connection.execute(insert(t.Account).values(generation=g, name="lab", settings={"models": ["default", "x"]}))
        for id, models in (("a", None), ("b", ["x", "tiny-embed"])):
            settings = {} if models is None else {"models": models}
            row = {"key_id": id, "account": "lab", "secret_hash": None, "secret_ref": f"env:{id}", "settings": settings}
            connection.execute(insert(t.Key).values(generation=g, **row))
        limits = {"limits": {"input": 9, "output": 5}, "fallback": ["tiny-embed"]}
        connection.execute(update(t.Model).where(t.Model.id == MODEL).values(settings=limits))

    got = snapshot.load(engine)

    assert got.key_refs == (
        KeyRef("env:a", KeyView("a", "lab", frozenset({MODEL, "x"}))),  # the account's, by id
        KeyRef("env:b", KeyView("b", "lab", frozenset({"x"}))),  # both lists hold
    )
    assert list(got.keys.values()) == [KeyView("k1", "acme")]
    assert (got.models[MODEL].output_limit, got.models[MODEL].fallback) == (5, ("tiny-embed",))


def test_the_token_moves_with_a_commit_of_somebody_else_and_only_then(engine: Engine) -> None:
    fill(str(engine.url), {"n1": "http://one:1"})
    with engine.connect() as reader:
        before = snapshot.version_token(reader)
        assert snapshot.version_token(reader) == before
        with engine.begin() as writer:
            writer.execute(healthy("n1", False))

        assert snapshot.version_token(reader) != before
        assert not snapshot.read(reader).neurons["n1"].healthy


def test_many_who_ask_at_once_share_one_open_load_request(engine: Engine) -> None:
    ids: list[int] = []
    threads = [
        threading.Thread(target=lambda: ids.append(load_requests.ensure_open(engine, MODEL, 5.0))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ids) == 8 and len(set(ids)) == 1
    assert load_requests.state(engine, ids[0]) == load_requests.LoadState("queued", None, None)
    with engine.begin() as connection:
        connection.execute(update(t.LoadRequest).values(state="failed", open=None, error="why"))
    assert load_requests.state(engine, ids[0]) == load_requests.LoadState("failed", None, "why")
    assert load_requests.ensure_open(engine, MODEL, 6.0) != ids[0]
    assert load_requests.state(engine, 999) is None


ROWS = [
    UsageRow("a", 100.0, "openai_chat", model="m1", account="acme", key_id="k1", prompt_tokens=10, completion_tokens=2,
             cached_tokens=4, ttft_s=0.5, tokens_per_second=20.0, status=200, outcome="ok"),
    UsageRow("b", 90_000.0, "openai_chat", model="m1", prompt_tokens=1, status=502, outcome="error", cold_start=True),
    UsageRow("c", 90_001.0, "openai_chat", model="m2", status=499, outcome="cancelled"),
    UsageRow("d", 90_002.0, "openai_chat", account="acme", key_id="k1", status=404, outcome="error"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("model", [("m1", 2), ("-", 1), ("m2", 1)]),
        ("key", [("-", 2), ("k1", 2)]),
        ("account", [("-", 2), ("acme", 2)]),
        ("day", [("1970-01-01", 1), ("1970-01-02", 3)]),
    ],
)
def test_reports_sum_by_group(engine: Engine, by: Group, expected: list[tuple[str, int]]) -> None:
    insert_rows(engine, ROWS)
    with engine.connect() as connection:
        sums = report(connection, by)
        later = report(connection, by, since=90_000.0)
        total = connection.execute(select(func.sum(t.Usage.prompt_tokens))).scalar_one()

    assert [(s.group, s.requests) for s in sums] == expected
    assert sum(s.prompt_tokens for s in sums) == total
    assert sum(s.requests for s in later) == 3


def test_a_report_has_every_sum(engine: Engine) -> None:
    insert_rows(engine, ROWS)
    with engine.connect() as connection:
        m1 = report(connection, "model")[0]

    assert (m1.errors, m1.cancelled, m1.cold_starts) == (1, 0, 1)
    assert (m1.prompt_tokens, m1.cached_tokens, m1.completion_tokens) == (11, 4, 2)
    assert (m1.ttft_s, m1.tokens_per_second) == (0.5, 20.0)


def test_the_usage_command_prints_tables_csv_and_json(engine: Engine) -> None:
    insert_rows(engine, [replace(r) for r in ROWS])
    runner = CliRunner()

    def run(*arguments: str) -> str:
        result = runner.invoke(usage_command, ["--database", str(engine.url), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "m1" in run() and "tokens in" in run()
    assert json.loads(run("--format", "json", "--by", "day"))[1]["requests"] == 3
    table = list(csv.DictReader(io.StringIO(run("--format", "csv", "--since", "1970-01-02T01:00:01"))))
    assert {r["model"]: r["requests"] for r in table} == {"m2": "1", "-": "1"}
    assert "No request" in run("--since", "1h")
    wrong = runner.invoke(usage_command, ["--database", str(engine.url), "--since", "yesterday"])
    assert wrong.exit_code == 2 and "7d" in wrong.output
