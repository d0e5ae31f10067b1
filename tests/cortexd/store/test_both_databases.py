"""Every query of the control plane, on SQLite and on PostgreSQL, over tables that the migrations made."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from cortexd import models as t
from cortexd.deploy.migrate import exclusive, upgrade
from cortexd.ledger.row import UsageRow
from cortexd.store import load_requests, load_requests_async, observations, retention, snapshot
from cortexd.store.connect import connect, connect_async
from cortexd.store.overview import forget_observed, overview
from cortexd.store.usage import insert_rows, report
from tests.cortexd.gateway.conftest import MODEL, fill, healthy, resident

T = TypeVar("T")
DAY = 86_400.0


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    with exclusive(engine) as connection:
        assert upgrade(connection)
    yield engine
    engine.dispose()


def run(url: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    async def main() -> T:
        engine = connect_async(url)
        try:
            return await work(engine)
        finally:
            await engine.dispose()

    return asyncio.run(main())


def test_the_token_moves_with_everything_that_a_snapshot_holds(engine: Engine, database_url: str) -> None:
    fill(database_url, {"n1": "http://one:1", "n2": "http://two:2"}, loaded=False)
    changes: list[Any] = [
        healthy("n1", False),
        resident("n1", "loading"),
        update(t.Resident).values(state="loaded"),
        update(t.Resident).values(state="draining"),
        update(t.Resident).values(state="loaded"),
        update(t.Resident).values(in_flight=3),
        delete(t.Resident),
        update(t.Live).values(version=2),
    ]
    with engine.connect() as reader:
        before = snapshot.version_token(reader)
        assert snapshot.version_token(reader) == before
        for change in changes:
            with connect(database_url).begin() as writer:
                writer.execute(change)
            after = snapshot.version_token(reader)
            assert after != before, str(change)
            before = after
        assert snapshot.read(reader).version == 2


def test_many_who_ask_at_once_share_one_load_request(engine: Engine, database_url: str) -> None:
    ids: list[int] = []
    asking = [
        threading.Thread(target=lambda: ids.append(load_requests.ensure_open(engine, MODEL, 5.0))) for _ in range(6)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(ids) == 6 and len(set(ids)) == 1

    async def answer(engine: AsyncEngine) -> None:
        (waiting,) = await load_requests_async.open_requests(engine)
        assert (waiting.id, waiting.model, waiting.state) == (ids[0], MODEL, "queued")
        await load_requests_async.set_loading(engine, (waiting.id,), "n1", 6.0)
        assert await load_requests_async.reset_orphans(engine, 7.0) == 1
        await load_requests_async.finish(engine, (waiting.id,), "refused", 8.0, error="no room")

    run(database_url, answer)
    assert load_requests.state(engine, ids[0]) == load_requests.LoadState("refused", None, "no room")
    assert load_requests.ensure_open(engine, MODEL, 9.0) != ids[0]


def test_what_the_controller_reads_and_writes(engine: Engine, database_url: str) -> None:
    fill(database_url, {"n1": "http://one:1"}, loaded=False)
    settings = {
        "gateway": {"cold_load_wait_s": 60}, "eviction": {"strategy": "priority", "idle_ttl_s": 9},
        "retention": {"usage_days": 3, "decision_days": None},
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(update(t.Generation).values(settings=settings))
        replicas = {"replicas": {"min": 1}, "on_pressure": "queue", "idle_ttl_s": 5}
        connection.execute(update(t.Model).where(t.Model.id == MODEL).values(settings=replicas))
    row = {"neuron": "n1", "model": MODEL, "state": "loaded", "in_flight": 1, "queue_depth": 0, "since": 1.0}

    async def round_(engine: AsyncEngine) -> observations.Fleet:
        await observations.write(engine, {("resident", ("n1", MODEL)): {**row, "error": None}}, [("neuron", ("n1",))])
        stored = await observations.stored(engine)
        assert set(stored) == {("resident", ("n1", MODEL))}
        for kind, at in (("evict", 1.0), ("defrag", 2.0), ("evict", 3.0), ("evict", 4.0)):
            await observations.record_decision(
                engine, at=at, kind=kind, model=None, neuron="n1", request=None, reason="", inputs={"at": at}
            )
        assert await observations.evictions(engine) == {"n1": [3.0, 4.0]}
        assert await observations.live_version(engine) == 1
        assert await observations.last_used(engine, [(MODEL, "n1")]) == {}
        return await observations.load_fleet(engine)

    fleet = run(database_url, round_)
    chat, embed = fleet.desired.models[MODEL], fleet.desired.models["tiny-embed"]
    assert (chat.min_replicas, chat.max_replicas, chat.on_pressure, chat.idle_ttl_s) == (1, 1, "queue", 5)
    assert (embed.min_replicas, embed.max_replicas, embed.on_pressure, embed.idle_ttl_s) == (0, None, "evict", 9)
    assert (fleet.desired.eviction.strategy, fleet.desired.wait_s) == ("priority", 60)
    assert fleet.retention == retention.Retention(3, None)
    seen = overview(engine, time.time())
    assert seen["replicas"] == [{"model": MODEL, "loaded": 0, "min": 1, "max": None, "neurons": []}]
    assert [d["kind"] for d in seen["decisions"]] == ["evict", "evict", "defrag", "evict"]
    forget_observed(engine)
    assert overview(engine, time.time())["residents"] == []


def test_old_rows_go_a_batch_at_a_time(engine: Engine, database_url: str) -> None:
    now = 100 * DAY
    insert_rows(engine, [UsageRow(f"r{i}", now - i * DAY, "openai_chat", status=200) for i in range(10)])
    with engine.begin() as connection:
        for i in range(4):
            at = now - i * DAY
            connection.execute(insert(t.Decision).values(at=at, kind="load", reason="", inputs={}))
            state = {"state": "failed", "open": None, "requested_at": at, "changed_at": at}
            connection.execute(insert(t.LoadRequest).values(model="m", **state))

    async def sweep(engine: AsyncEngine) -> list[int]:
        kept = retention.Retention(usage_days=4.5, decision_days=None)
        return [await retention.delete_batch(engine, kept, now, batch=3) for _ in range(4)]

    assert run(database_url, sweep) == [3, 2, 2, 0]
    with engine.connect() as connection:
        assert sorted(connection.scalars(select(t.Usage.request_id))) == ["r0", "r1", "r2", "r3", "r4"]
        assert connection.scalar(select(func.count()).select_from(t.Decision)) == 4
        assert connection.scalar(select(func.count()).select_from(t.LoadRequest)) == 2


def test_the_ledger_takes_a_row_once_and_sums_it(engine: Engine) -> None:
    rows = [
        UsageRow(f"r{i}", i * DAY, "openai_chat", model="m", account="a", prompt_tokens=i, status=200, outcome="ok")
        for i in (1, 2)
    ]
    insert_rows(engine, rows)
    insert_rows(engine, [*rows, UsageRow("r3", 1.0, "openai_chat", key_id="k", status=500)])

    with engine.connect() as connection:
        assert [(s.group, s.requests, s.prompt_tokens) for s in report(connection, "model")] == [
            ("m", 2, 3),
            ("-", 1, 0),
        ]
        assert [s.group for s in report(connection, "day")] == ["1970-01-01", "1970-01-02", "1970-01-03"]
        assert [s.group for s in report(connection, "account", since=DAY)] == ["a"]


def test_a_snapshot_is_the_same_from_both(engine: Engine, database_url: str) -> None:
    fill(database_url, {"n1": "http://one:1/", "n2": "http://two:2"})

    got = snapshot.load(engine)

    assert got.models[MODEL].placements == ("n1", "n2") and got.neurons["n1"].healthy
    assert [key.key_id for key in got.keys.values()] == ["k1"] and got.aliases == {"default": MODEL}
    assert [r.neuron for r in got.residents[MODEL]] == ["n1", "n2"]
