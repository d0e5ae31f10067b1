"""The ledger: one usage row per request."""

from __future__ import annotations

from sqlalchemy import Float, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from cortexd.models.base import Base


class Usage(Base):
    """One request, committed before its last byte left. Times are Unix seconds, durations seconds.

    ``model`` is the id that served, ``requested_model`` what the client wrote (an alias, perhaps). ``status`` is the
    HTTP status the client saw; ``finish_reason`` is null for a request that did not finish. ``outcome`` is ok, error or
    cancelled. ``tokens_per_second`` counts generated tokens between first and last one.
    """

    __tablename__ = "usage"
    request_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[float] = mapped_column(Float, index=True)
    generation: Mapped[str | None] = mapped_column(String(64))
    dialect: Mapped[str]
    requested_model: Mapped[str | None]
    model: Mapped[str | None]
    neuron: Mapped[str | None]
    account: Mapped[str | None]
    key_id: Mapped[str | None]
    streamed: Mapped[bool]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    ttft_s: Mapped[float | None] = mapped_column(Float)
    duration_s: Mapped[float] = mapped_column(Float)
    tokens_per_second: Mapped[float | None] = mapped_column(Float)
    status: Mapped[int]
    outcome: Mapped[str]
    finish_reason: Mapped[str | None]
    error_code: Mapped[str | None]
    cold_start: Mapped[bool]
    __table_args__ = (Index("ix_usage_model_started_at", "model", "started_at"),)
