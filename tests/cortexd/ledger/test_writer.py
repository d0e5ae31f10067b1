"""Rows reach the database exactly once, by whichever way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from cortexd.ledger.row import UsageRow
from cortexd.ledger.spool import Spool
from cortexd.ledger.writer import UsageWriter
from cortexd.models import Base, Usage
from cortexd.store.connect import connect
from cortexd.store.usage import insert_rows


def row(number: int) -> UsageRow:
    return UsageRow(f"req_{number}", 1.5, "openai_chat", model="m", outcome="ok", status=200, completion_tokens=number)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'state.db'}", busy_timeout_ms=100)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(Usage)).scalar_one()


def write_all(writer: UsageWriter, rows: list[UsageRow]) -> list[bool]:
    ended = threading.Barrier(2)
    results: list[bool] = []

    def done(durable: bool) -> None:
        results.append(durable)
        if len(results) == len(rows):
            ended.wait(10)

    for r in rows:
        writer.write(r, done)
    ended.wait(10)
    return results


def test_rows_are_in_the_database_when_the_callback_runs(engine: Engine, tmp_path: Path) -> None:
    writer = UsageWriter(engine, tmp_path / "spool")
    writer.start()

    assert write_all(writer, [row(n) for n in range(1200)]) == [True] * 1200
    assert count(engine) == 1200
    writer.stop()


def test_stop_writes_what_is_queued(engine: Engine, tmp_path: Path) -> None:
    writer = UsageWriter(engine, tmp_path / "spool")
    for n in range(10):
        writer.write(row(n), lambda durable: None)
    writer.start()
    writer.stop()

    assert count(engine) == 10


def test_a_row_that_comes_twice_is_one_row(engine: Engine) -> None:
    insert_rows(engine, [row(1), row(1)])
    insert_rows(engine, [row(1), row(2)])

    assert count(engine) == 2


def test_a_locked_database_sends_rows_to_the_spool_and_they_come_back(engine: Engine, tmp_path: Path) -> None:
    writer = UsageWriter(engine, tmp_path / "spool")
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN EXCLUSIVE")
        writer.start()
        assert write_all(writer, [row(1), row(2)]) == [True, True]
        assert len(list((tmp_path / "spool").glob("*.jsonl"))) == 1
        other.rollback()
    writer.stop()
    UsageWriterOnce(engine, tmp_path / "spool")

    assert count(engine) == 2
    assert list((tmp_path / "spool").glob("*.jsonl")) == []


def UsageWriterOnce(engine: Engine, spool: Path) -> None:
    """The next process: it finds the journal of the one before."""
    writer = UsageWriter(engine, spool)
    writer.start()
    writer.stop()


def test_neither_database_nor_disk_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    Base.metadata.drop_all(engine)
    writer = UsageWriter(engine, tmp_path / "spool")
    writer.start()

    assert write_all(writer, [row(1)]) == [False]
    writer.stop()


def test_a_killed_writers_journal_is_drained_but_not_a_living_ones(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from cortexd.ledger.spool import Spool; "
        "from cortexd.ledger.row import UsageRow\n"
        "s = Spool(Path(sys.argv[1])); s.append([UsageRow('req_9', 1.0, 'openai_chat')]); print('ready', flush=True)\n"
        "input()"
    )
    root = Path(__file__).resolve().parents[3]
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert other.stdout is not None and other.stdout.readline() == "ready\n"
    got: list[UsageRow] = []
    spool = Spool(tmp_path)

    alive = spool.drain(got.extend)
    other.kill()
    other.communicate()
    dead = spool.drain(got.extend)

    assert (alive, dead) == ((0, []), (1, []))
    assert [r.request_id for r in got] == ["req_9"]


def test_a_torn_last_line_is_left_out_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "usage-1-0.jsonl").write_text(row(1).to_json() + "\n" + row(2).to_json()[:40])
    got: list[UsageRow] = []

    drained, complaints = Spool(tmp_path).drain(got.extend)

    assert (drained, got) == (1, [row(1)])
    assert len(complaints) == 1 and "usage-1-0.jsonl:2" in complaints[0]


def test_what_insert_raises_keeps_the_journal(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([row(1)])

    def away(rows: object) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        spool.drain(away)
    got: list[UsageRow] = []
    assert spool.drain(got.extend) == (1, [])
    spool.append([row(2)])
    assert spool.drain(got.extend) == (1, [])
    assert got == [row(1), row(2)]
