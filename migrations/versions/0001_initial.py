"""The first tables: desired, observed, ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

HASH = sa.String(64)


def upgrade() -> None:
    """Everything, in the order of references."""
    _desired()
    _observed()
    _ledger()


def _of_generation(table: str, key: tuple[str, ...], *columns: sa.Column) -> None:
    """A desired table: its rows belong to a generation and go with it."""
    op.create_table(
        table,
        sa.Column("generation", HASH, nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["generation"], ["generation.hash"], name=op.f(f"fk_{table}_generation_generation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation", *key, name=op.f(f"pk_{table}")),
    )


def _desired() -> None:
    op.create_table(
        "generation",
        sa.Column("hash", HASH, nullable=False),
        sa.Column("fleet", sa.String(), nullable=False),
        sa.Column("compiler_version", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_generation")),
    )
    op.create_table(
        "live",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("generation", HASH, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generation.hash"], name=op.f("fk_live_generation_generation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live")),
    )
    op.create_table(
        "apply_history",
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.Float(), nullable=False),
        sa.Column("previous", HASH, nullable=True),
        sa.Column("generation", HASH, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_apply_history")),
    )
    _of_generation(
        "host",
        ("name",),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("ssh", sa.String(), nullable=True),
    )
    _of_generation(
        "neuron",
        ("name",),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("token_ref", sa.String(), nullable=True),
    )
    _of_generation(
        "device",
        ("neuron", "name"),
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
    )
    _of_generation(
        "model",
        ("id",),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("artifact", sa.String(), nullable=False),
        sa.Column("manifest_sha256", HASH, nullable=False),
        sa.Column("context", sa.Integer(), nullable=False),
        sa.Column("max_sequences", sa.Integer(), nullable=False),
        sa.Column("weight_bytes", sa.BigInteger(), nullable=False),
        sa.Column("kv_bytes", sa.BigInteger(), nullable=False),
        sa.Column("need_bytes", sa.BigInteger(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("residency_priority", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
    )
    _of_generation(
        "alias",
        ("name",),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
    )
    _of_generation(
        "placement",
        ("model", "neuron"),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
    )
    _of_generation(
        "key",
        ("key_id",),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("secret_hash", HASH, nullable=False),
    )


def _observed() -> None:
    op.create_table(
        "neuron_observation",
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("healthy", sa.Boolean(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("polled_at", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("neuron", name=op.f("pk_neuron_observation")),
    )
    op.create_table(
        "device_observation",
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("memory_total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("utilization_pct", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("neuron", "device", name=op.f("pk_device_observation")),
    )
    op.create_table(
        "resident",
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("queue_depth", sa.Integer(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("neuron", "model", name=op.f("pk_resident")),
    )
    op.create_table(
        "load_request",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("open", sa.Integer(), nullable=True),
        sa.Column("neuron", sa.String(), nullable=True),
        sa.Column("requested_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_request")),
    )
    op.create_index(
        "uq_load_request_open_model",
        "load_request",
        ["model"],
        unique=True,
        sqlite_where=sa.text("open = 1"),
        postgresql_where=sa.text("open = 1"),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("neuron", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_at"), "decision", ["at"])
    op.create_index(op.f("ix_decision_request_id"), "decision", ["request_id"])


def _ledger() -> None:
    op.create_table(
        "usage",
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("generation", sa.String(64), nullable=True),
        sa.Column("dialect", sa.String(), nullable=False),
        sa.Column("requested_model", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("neuron", sa.String(), nullable=True),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("streamed", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("ttft_s", sa.Float(), nullable=True),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("tokens_per_second", sa.Float(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("cold_start", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_usage")),
    )
    op.create_index(op.f("ix_usage_started_at"), "usage", ["started_at"])
    op.create_index("ix_usage_model_started_at", "usage", ["model", "started_at"])


def downgrade() -> None:
    """Nothing of ours is left."""
    for table in ("usage", "decision", "load_request", "resident", "device_observation", "neuron_observation"):
        op.drop_table(table)
    for table in (
        "key",
        "placement",
        "alias",
        "model",
        "device",
        "neuron",
        "host",
        "apply_history",
        "live",
        "generation",
    ):
        op.drop_table(table)
