"""The audit log: events, the resources they touched, and the signed marks of its ends."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("seq", COUNTED, primary_key=True, autoincrement=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("management", sa.Boolean(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("username", sa.String(128), nullable=False),
        sa.Column("access_key", sa.String(128), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_events_time", "audit_events", ["account", "region", "management", "time", "seq"])
    op.create_index("ix_audit_events_id", "audit_events", ["event_id"])
    for column in ("name", "source", "username", "access_key", "read_only"):
        columns = ["account", "region", "management", column, "time", "seq"]
        op.create_index(f"ix_audit_events_{column}", "audit_events", columns)
    op.create_table(
        "audit_resources",
        sa.Column("seq", COUNTED, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("arn", sa.String(512), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
    )
    for column in ("name", "arn", "type"):
        op.create_index(
            f"ix_audit_resources_{column}", "audit_resources", ["account", "region", column, "time", "seq"]
        )
    op.create_table(
        "audit_marks",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("seq", COUNTED, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    for table in ("audit_marks", "audit_resources", "audit_events"):
        op.drop_table(table)
