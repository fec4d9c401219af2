"""What the SageMaker control plane keeps: tags, values that lists filter by, counters, observations.

Endpoint names become unique in an account. An older database can hold one name in two regions only if
the `region` setting was changed, and then nothing served or showed the older row: the newest is kept.
ARNs become unique; where two names differ in case alone, their ARNs keep that case.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ENDPOINTS_ONLY = sa.text("kind = 'Endpoint'")
ORDERS = {
    "ix_resources_created": ["account", "region", "kind", "created_at", "id"],
    "ix_resources_modified": ["account", "region", "kind", "modified_at", "id"],
    "ix_resources_status": ["account", "region", "kind", "status", "id"],
}


def upgrade() -> None:
    op.add_column("resources", sa.Column("observation", sa.JSON(), nullable=True))
    op.add_column("resources", sa.Column("counter", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "DELETE FROM resources WHERE kind = 'Endpoint' AND EXISTS (SELECT 1 FROM resources AS other "
        "WHERE other.kind = 'Endpoint' AND other.account = resources.account AND other.name = resources.name "
        "AND (other.modified_at > resources.modified_at "
        "OR (other.modified_at = resources.modified_at AND other.id > resources.id)))"
    )
    op.execute(
        "UPDATE resources SET arn = 'arn:aws:sagemaker:' || region || ':' || account || ':' || lower(kind) || '/' "
        "|| name WHERE arn IN (SELECT arn FROM resources GROUP BY arn HAVING count(*) > 1)"
    )
    op.create_index("uq_resources_arn", "resources", ["arn"], unique=True)
    op.create_index(
        "uq_resources_endpoint_name", "resources", ["account", "name"], unique=True,
        sqlite_where=ENDPOINTS_ONLY, postgresql_where=ENDPOINTS_ONLY,
    )  # fmt: skip
    op.drop_index("ix_resources_account_region_kind_created_at", "resources")
    op.drop_index("ix_resources_kind_status", "resources")
    for name, columns in ORDERS.items():
        op.create_index(name, "resources", columns)
    for table, size in (("facets", 64), ("tags", 128)):
        op.create_table(
            table,
            sa.Column(
                "resource_id",
                sa.Integer(),
                sa.ForeignKey("resources.id", ondelete="CASCADE", name=f"fk_{table}_resource_id"),
                primary_key=True,
            ),
            sa.Column("key", sa.String(size), primary_key=True),
            sa.Column("value", sa.String(512 if table == "facets" else 256), nullable=False),
        )
    op.create_index("ix_facets_key", "facets", ["key", "value", "resource_id"])


def downgrade() -> None:
    op.drop_table("facets")
    op.drop_table("tags")
    for name in (*ORDERS, "uq_resources_endpoint_name", "uq_resources_arn"):
        op.drop_index(name, "resources")
    op.create_index(
        "ix_resources_account_region_kind_created_at", "resources", ["account", "region", "kind", "created_at"]
    )
    op.create_index("ix_resources_kind_status", "resources", ["kind", "status"])
    with op.batch_alter_table("resources") as table:
        table.drop_column("counter")
        table.drop_column("observation")
