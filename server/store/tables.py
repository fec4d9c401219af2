"""The tables of the store. Changing one means a new migration in `migrations/versions`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, DateTime, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )


class ResourceRow(Base):
    """One resource: what was asked for (`document`) and what became of it (`status`).

    `generation` counts changes of the document, `observed` is the generation the controller last made
    true; only the controller writes `status`, `reason` and `observed`.
    """

    __tablename__ = "resources"
    __table_args__ = (
        UniqueConstraint("account", "region", "kind", "name"),
        Index(None, "account", "region", "kind", "created_at"),
        Index(None, "kind", "status"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    arn: Mapped[str] = mapped_column(String(512))
    document: Mapped[dict[str, object]] = mapped_column(JSON)
    generation: Mapped[int] = mapped_column(Integer, default=1)
    observed: Mapped[int] = mapped_column(Integer, default=0)
    status: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text, default=None)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    modified_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
