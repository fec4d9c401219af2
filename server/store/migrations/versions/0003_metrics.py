"""Metrics: series, and what was measured of them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "metric_series",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("region", sa.String(32), nullable=False),
        sa.Column("namespace", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("dimensions", sa.Text(), nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint(
            "account", "region", "namespace", "name", "dimensions",
            name="uq_metric_series_account_region_namespace_name_dimensions",
        ),
    )  # fmt: skip
    op.create_table(
        "metric_points",
        sa.Column(
            "series_id",
            sa.Integer(),
            sa.ForeignKey("metric_series.id", ondelete="CASCADE", name="fk_metric_points_series_id"),
            primary_key=True,
        ),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("source", sa.String(64), primary_key=True),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
    )
    op.create_index("ix_metric_points_age", "metric_points", ["seconds", "start"])


def downgrade() -> None:
    op.drop_table("metric_points")
    op.drop_table("metric_series")
