"""Quotas: the values that accounts have of their own, and what they asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("code", sa.String(64), primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
    )
    op.create_table(
        "quota_requests",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("desired", sa.Float(53), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_quota_requests_account", "quota_requests", ["account", "region", "created_at"])


def downgrade() -> None:
    op.drop_table("quota_requests")
    op.drop_table("quotas")
