"""Desired state: what a generation declares. Rows are written by ``apply`` and never edited afterwards.

``build/<hash>/fleet.db`` holds the same tables for one generation; the live database holds every applied generation and
one row in ``live`` that says which of them is current. ``settings`` columns hold the part that only its reader looks
into (JSON).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from cortexd.models.base import Base

_HASH = String(64)


def _generation() -> Mapped[str]:
    return mapped_column(_HASH, ForeignKey("generation.hash", ondelete="CASCADE"), primary_key=True)


class Generation(Base):
    """One compiled desired state, named by the hash of its content. ``settings``: the gateway's and eviction's part."""

    __tablename__ = "generation"
    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    fleet: Mapped[str]
    compiler_version: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)


class Live(Base):
    """One row: the current generation. ``version`` grows with each apply; ``applied_at`` is Unix seconds."""

    __tablename__ = "live"
    id: Mapped[int] = mapped_column(primary_key=True)
    generation: Mapped[str] = mapped_column(_HASH, ForeignKey("generation.hash"))
    version: Mapped[int]
    applied_at: Mapped[float] = mapped_column(Float)


class ApplyHistory(Base):
    """Each switch of ``live``: when (Unix seconds), from what (null: nothing), to what.

    ``kind``: apply, rollback, or return (an apply that was not healthy went back by itself). ``state``: applying while
    hosts are being switched, live once all of them were ready, failed if they never were (``error`` says why).
    ``finished_at`` is null while it is applying.
    """

    __tablename__ = "apply_history"
    version: Mapped[int] = mapped_column(primary_key=True)
    applied_at: Mapped[float] = mapped_column(Float)
    previous: Mapped[str | None] = mapped_column(_HASH)
    generation: Mapped[str] = mapped_column(_HASH)
    kind: Mapped[str]
    state: Mapped[str]
    finished_at: Mapped[float | None] = mapped_column(Float)
    error: Mapped[str | None]


class Host(Base):
    """A machine. ``ssh`` is null for the local one."""

    __tablename__ = "host"
    generation: Mapped[str] = _generation()
    name: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]
    ssh: Mapped[str | None]


class Neuron(Base):
    """A daemon. ``endpoint`` is its base URL without a trailing slash; ``token_ref`` names where its token lies."""

    __tablename__ = "neuron"
    generation: Mapped[str] = _generation()
    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    endpoint: Mapped[str]
    token_ref: Mapped[str | None]


class Device(Base):
    """One GPU of a neuron, or a CPU standing in for one."""

    __tablename__ = "device"
    generation: Mapped[str] = _generation()
    neuron: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    index: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)


class Model(Base):
    """What is served, by id. ``context`` is in tokens; ``need_bytes`` is the proven sum for one replica."""

    __tablename__ = "model"
    generation: Mapped[str] = _generation()
    id: Mapped[str] = mapped_column(primary_key=True)
    task: Mapped[str]
    artifact: Mapped[str]
    manifest_sha256: Mapped[str] = mapped_column(_HASH)
    context: Mapped[int]
    max_sequences: Mapped[int]
    weight_bytes: Mapped[int] = mapped_column(BigInteger)
    kv_bytes: Mapped[int] = mapped_column(BigInteger)
    need_bytes: Mapped[int] = mapped_column(BigInteger)
    pinned: Mapped[bool]
    residency_priority: Mapped[int]
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)


class Alias(Base):
    """Another name for a model; never chained."""

    __tablename__ = "alias"
    generation: Mapped[str] = _generation()
    name: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]


class Placement(Base):
    """A model on devices of a neuron, with the reason. ``rank`` 0 is the first choice; ``devices`` is a JSON list."""

    __tablename__ = "placement"
    generation: Mapped[str] = _generation()
    model: Mapped[str] = mapped_column(primary_key=True)
    neuron: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[list[str]] = mapped_column(JSON)
    rank: Mapped[int]
    pinned: Mapped[bool]
    reason: Mapped[str]


class Account(Base):
    """Who usage is counted for. ``settings``: its limits."""

    __tablename__ = "account"
    generation: Mapped[str] = _generation()
    name: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)


class Key(Base):
    """An API key, never its secret: the SHA-256 of it, or where the gateway finds it. ``key_id`` is a public name.

    Exactly one of ``secret_hash`` and ``secret_ref`` (``env:NAME``, ``file:/PATH`` or ``credential:NAME``) is set.
    ``settings``: its limits.
    """

    __tablename__ = "key"
    generation: Mapped[str] = _generation()
    key_id: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    secret_hash: Mapped[str | None] = mapped_column(_HASH)
    secret_ref: Mapped[str | None]
    settings: Mapped[dict[str, Any]] = mapped_column(JSON)
