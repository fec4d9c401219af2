"""Who sends the request that is being answered, for code that is far from its headers."""

from __future__ import annotations

from contextvars import ContextVar

from server.identity.principal import Principal

CALLER: ContextVar[Principal | None] = ContextVar("caller", default=None)
"""None: nobody was asked."""
