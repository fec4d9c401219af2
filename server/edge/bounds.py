"""How many requests of an endpoint may be in flight together: the part of HAProxy's configuration that counts. Pure."""

from __future__ import annotations

from server.edge.choosing import quoted
from server.edge.replies import throttled
from server.edge.routes import EdgeConfig

_BOUNDED = """\
  http-request set-var(txn.most) var(txn.place),map_str_int({concurrency})
  http-request track-sc0 var(txn.place) table {table} if {{ var(txn.most) -m found }}{uncounted}
  http-request {throttled} if {{ sc0_conn_cur,sub(txn.most) -m int gt 0 }}"""
"""What waits for a sleeping endpoint counts as well. It comes a second time, from the door, and is not counted then."""

COUNTED = "x-hearth-counted"
CONCURRENCY = "concurrency"


def bounds(config: EdgeConfig, uncounted: str = "") -> str:
    """Rules for a request whose place is known; `uncounted`: a further condition for it to be counted."""
    return _BOUNDED.format(
        concurrency=quoted(config.concurrency_map), table=CONCURRENCY, uncounted=uncounted, throttled=throttled()
    )
