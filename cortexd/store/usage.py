"""The ledger's queries: rows in, reports out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Float, Insert, case, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite

from cortexd.ledger.row import UsageRow
from cortexd.models import Usage

Group = Literal["model", "key", "account", "day"]


def _insert_or_ignore(dialect: str) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(Usage).on_conflict_do_nothing(index_elements=[Usage.request_id])
    return sqlite.insert(Usage).on_conflict_do_nothing(index_elements=[Usage.request_id])


def insert_rows(engine: Engine, rows: Sequence[UsageRow]) -> None:
    """All rows in one transaction; a request that is there already stays as it is. Raises SQLAlchemyError."""
    with engine.begin() as connection:
        connection.execute(_insert_or_ignore(connection.dialect.name), [row.columns() for row in rows])


@dataclass(frozen=True, slots=True)
class UsageSum:
    """One line of a report. Times in seconds; the averages are None where nothing was measured."""

    group: str
    requests: int
    errors: int
    cancelled: int
    cold_starts: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_s: float | None
    tokens_per_second: float | None


def report(connection: Connection, by: Group, since: float | None = None) -> list[UsageSum]:
    """Sums by model, key, account or day (UTC), the largest first (days in order). ``since``: Unix seconds."""
    group = _group(by, connection.dialect.name)
    query = (
        select(
            group.label("group"),
            func.count(),
            func.coalesce(func.sum(case((Usage.outcome == "error", 1), else_=0)), 0),
            func.coalesce(func.sum(case((Usage.outcome == "cancelled", 1), else_=0)), 0),
            func.coalesce(func.sum(case((Usage.cold_start, 1), else_=0)), 0),
            func.coalesce(func.sum(Usage.prompt_tokens), 0),
            func.coalesce(func.sum(Usage.cached_tokens), 0),
            func.coalesce(func.sum(Usage.completion_tokens), 0),
            cast(func.avg(Usage.ttft_s), Float),
            cast(func.avg(Usage.tokens_per_second), Float),
        )
        .group_by(group)
        .order_by(group if by == "day" else func.count().desc(), group)
    )
    if since is not None:
        query = query.where(Usage.started_at >= since)
    return [UsageSum(*row) for row in connection.execute(query)]


def _group(by: Group, dialect: str) -> Any:
    if by == "day":
        if dialect == "postgresql":
            return func.to_char(func.timezone("UTC", func.to_timestamp(Usage.started_at)), "YYYY-MM-DD")
        return func.date(Usage.started_at, "unixepoch")
    # A refused request may lack a model, an anonymous one a key.
    column = {"model": Usage.model, "key": Usage.key_id, "account": Usage.account}[by]
    return func.coalesce(column, "-")
