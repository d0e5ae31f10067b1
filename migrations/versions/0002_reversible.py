"""What apply, rollback and memory proof record: accounts, keys by reference, how an apply went, measured bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HASH = sa.String(64)


def upgrade() -> None:
    """Existing rows stay valid: a key has its hash, an apply of before is a finished one."""
    op.create_table(
        "account",
        sa.Column("generation", HASH, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["generation"], ["generation.hash"], name=op.f("fk_account_generation_generation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation", "name", name=op.f("pk_account")),
    )
    op.create_table(
        "memory_observation",
        sa.Column("neuron", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("manifest_sha256", HASH, nullable=False),
        sa.Column("context", sa.Integer(), nullable=False),
        sa.Column("max_sequences", sa.Integer(), nullable=False),
        sa.Column("predicted_bytes", sa.BigInteger(), nullable=False),
        sa.Column("measured_bytes", sa.BigInteger(), nullable=False),
        sa.Column("measured_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "neuron",
            "device",
            "model",
            "manifest_sha256",
            "context",
            "max_sequences",
            name=op.f("pk_memory_observation"),
        ),
    )
    hashed = "generation, key_id, account, secret_hash, NULL, '{}'"
    _remake("key", _key(True, _reference(), _settings()), hashed)
    finished = "version, applied_at, previous, generation, 'apply', 'live', applied_at, NULL"
    _remake("apply_history", [*_history(), *_course()], finished)


def downgrade() -> None:
    """Keys that are known by reference only cannot be kept: the earlier version has no place for them."""
    op.execute("DELETE FROM key WHERE secret_hash IS NULL")
    _remake("key", _key(False), "generation, key_id, account, secret_hash")
    _remake("apply_history", _history(), "version, applied_at, previous, generation")
    op.drop_table("memory_observation")
    op.drop_table("account")


def _remake(table: str, items: list[sa.schema.SchemaItem], values: str) -> None:
    """A table in its new form with its rows, in SQL that SQLite and PostgreSQL share and alembic can print."""
    op.execute(f"CREATE TABLE {table}_before AS SELECT * FROM {table}")  # noqa: S608
    op.drop_table(table)
    op.create_table(table, *items)
    op.execute(f"INSERT INTO {table} SELECT {values} FROM {table}_before")  # noqa: S608
    op.drop_table(f"{table}_before")


def _key(by_reference: bool, *more: sa.Column) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("generation", HASH, nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("secret_hash", HASH, nullable=by_reference),
        *more,
        sa.ForeignKeyConstraint(
            ["generation"], ["generation.hash"], name=op.f("fk_key_generation_generation"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("generation", "key_id", name=op.f("pk_key")),
    ]


def _reference() -> sa.Column:
    return sa.Column("secret_ref", sa.String(), nullable=True)


def _settings() -> sa.Column:
    return sa.Column("settings", sa.JSON(), nullable=False)


def _history() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("applied_at", sa.Float(), nullable=False),
        sa.Column("previous", HASH, nullable=True),
        sa.Column("generation", HASH, nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_apply_history")),
    ]


def _course() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
    ]
