"""Tokens that callers have used of external models."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "token_use",
        sa.Column("account", sa.String(12), primary_key=True),
        sa.Column("endpoint", sa.String(63), primary_key=True),
        sa.Column("principal", sa.String(512), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("token_use")
