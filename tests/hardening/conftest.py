"""The edge of `tests.edge`: a real HAProxy in front of servers that say what they were asked."""

from __future__ import annotations

from tests.edge.conftest import routed

__all__ = ["routed"]
