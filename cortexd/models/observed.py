"""Observed state: what neurons reported, what is resident, what was asked for, what was decided."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from cortexd.models.base import Base


class NeuronObservation(Base):
    """The last that was heard of a neuron. ``misses`` counts failed polls in a row; times are Unix seconds."""

    __tablename__ = "neuron_observation"
    neuron: Mapped[str] = mapped_column(primary_key=True)
    healthy: Mapped[bool]
    misses: Mapped[int]
    polled_at: Mapped[float] = mapped_column(Float)
    error: Mapped[str | None]
    version: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)


class DeviceObservation(Base):
    """Memory of a device as its neuron measured it."""

    __tablename__ = "device_observation"
    neuron: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    memory_total_bytes: Mapped[int] = mapped_column(BigInteger)
    memory_used_bytes: Mapped[int] = mapped_column(BigInteger)
    utilization_pct: Mapped[float | None] = mapped_column(Float)


class MemoryObservation(Base):
    """What a resident really took on a device, beside what the memory proof predicted, in bytes; the newest counts.

    Kept for each artifact and shape (``context`` tokens x ``max_sequences``), so that a changed model starts anew.
    """

    __tablename__ = "memory_observation"
    neuron: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    manifest_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    context: Mapped[int] = mapped_column(primary_key=True)
    max_sequences: Mapped[int] = mapped_column(primary_key=True)
    predicted_bytes: Mapped[int] = mapped_column(BigInteger)
    measured_bytes: Mapped[int] = mapped_column(BigInteger)
    measured_at: Mapped[float] = mapped_column(Float)


class Resident(Base):
    """A model on a neuron: ``state`` is loading, loaded, draining, unloading or failed."""

    __tablename__ = "resident"
    neuron: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    in_flight: Mapped[int]
    queue_depth: Mapped[int]
    since: Mapped[float] = mapped_column(Float)
    error: Mapped[str | None]


class LoadRequest(Base):
    """A cold load that somebody waits for. One open row per model: the single flight of the whole fleet.

    ``state``: queued, loading, loaded, failed, refused (no room now), cancelled. ``open`` is 1 while it is queued or
    loading, else null.
    """

    __tablename__ = "load_request"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str]
    state: Mapped[str]
    open: Mapped[int | None]
    neuron: Mapped[str | None]
    requested_at: Mapped[float] = mapped_column(Float)
    changed_at: Mapped[float] = mapped_column(Float)
    error: Mapped[str | None]
    __table_args__ = (
        Index(
            "uq_load_request_open_model",
            "model",
            unique=True,
            sqlite_where=text("open = 1"),
            postgresql_where=text("open = 1"),
        ),
    )


class Decision(Base):
    """A decision with its inputs, as it was taken. ``kind``: load, evict, defrag (of a neuron), refuse or fulfil."""

    __tablename__ = "decision"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    kind: Mapped[str]
    model: Mapped[str | None]
    neuron: Mapped[str | None]
    request_id: Mapped[str | None] = mapped_column(String(64), index=True)
    reason: Mapped[str]
    inputs: Mapped[dict[str, Any]] = mapped_column(JSON)
