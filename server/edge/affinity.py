"""Which replica of a variant takes a request: the part of HAProxy's configuration that balances and remembers. Pure.

A backend's stick table remembers who took a session, or a prompt's beginning. It outlives a reload (the old worker
tells the new one), no replica's coming moves anything in it, and of a replica that goes only what was its own moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.dialects.call import SESSION
from server.dialects.service_model import INVOKE, header_name
from server.edge.choosing import quoted
from server.edge.routes import Backend, EdgeConfig
from server.spec import RoutingStrategy

PEER = "edge"
REMEMBERED = 100_000
"""Sessions and prompts that one backend remembers; the longest unused go first."""
REMEMBERED_FOR = "1h"
OPENAI_SESSION = "x-session-id"
"""The session's header for clients who do not speak SageMaker's; theirs goes before it."""
PREFIX_ID = header_name(INVOKE, "PrefixAwareId", output=False).lower()

BALANCE: Mapping[RoutingStrategy, str] = {
    "LEAST_OUTSTANDING_REQUESTS": "leastconn",
    "RANDOM": "random(1)",
    "PREFIX_AWARE": "leastconn",
}

LOAD_FACTOR = 150
"""Percent of the mean load that a replica may have before requests for what it holds go on to the next one."""

_HASHED = """\
hdr({header})
  hash-type consistent sdbm avalanche
  hash-balance-factor {factor}"""
"""Consistent: a replica that comes or goes moves its own share of the values alone. Requests without the header go in
turns."""

_SESSIONS = f"""\
  stick-table type string len 40 size {REMEMBERED} expire {REMEMBERED_FOR} peers {PEER}
  http-request set-var(txn.session) req.fhdr({OPENAI_SESSION}) if {{ req.fhdr({OPENAI_SESSION}) -m len gt 0 }}
  http-request set-var(txn.session) req.fhdr({SESSION.decode()}) if {{ req.fhdr({SESSION.decode()}) -m len gt 0 }}
  http-request set-var(txn.session) str(session),concat(:,txn.session),sha1,hex if {{ var(txn.session) -m found }}
  stick on var(txn.session)
"""

_OPENAI = "path_sub /v1/"
_PROMPT = r'(?s)^.*?\"(?:messages|prompt|input|system|instructions)\"\s*:'
"""What comes before an OpenAI or Anthropic body's prompt."""

_PREFIXES = """\
  http-request wait-for-body time {wait} if METH_POST
  http-request set-var(txn.prompt) req.body,bytes(0,{length}) if !{{ {openai} }}
  http-request set-var(txn.prompt) 'req.body,regsub("{before}",""),bytes(0,{length})' if {{ {openai} }}
  http-request set-var(txn.hint) req.body,json_query('$.prompt_cache_key'),bytes(0,256) if {{ {openai} }}
  http-request set-var(txn.hint) req.fhdr({hint}) if {{ req.fhdr({hint}) -m len gt 0 }}
  http-request set-var(txn.prefix) str(prefix),concat(:,txn.hint),concat(:,txn.prompt),sha1,hex \
if METH_POST {{ var(txn.prompt) -m found }}
  http-request set-var(txn.holder) var(txn.prefix),table_server_id if {{ var(txn.prefix) -m found }}
{full}\
  stick match var(txn.prefix) if !{{ var(txn.full) -m found }}
  stick store-request var(txn.prefix) if !{{ var(txn.full) -m found }}
"""
_FULL = """\
  http-request set-var(txn.full) bool(true) \
if {{ var(txn.holder) -m int {id} }} {{ srv_is_up({server}) }} {{ srv_conn({server}) ge {threshold} }}
"""
"""What the holder has no room for goes to another, and the prompt stays the holder's."""


def peers(config: EdgeConfig) -> str:
    """How a worker tells the one after it what it remembers."""
    return f"""\
peers {PEER}
  bind {quoted(f"unix@{config.peers_socket}")} mode 600
  server {PEER}
"""


def balance(variants: Sequence[Backend]) -> str:
    """Of one variant, as it asks. Of several, or of several revisions, in turns by weight: leastconn would undo the
    weights as soon as one is slower, and random(1) follows them only roughly."""
    if _alone(variants) and variants[0].affinity:
        return _HASHED.format(header=variants[0].affinity, factor=LOAD_FACTOR)
    return BALANCE[variants[0].routing.strategy] if _alone(variants) else "roundrobin"


def remembered(config: EdgeConfig, name: str, variants: Sequence[Backend], slots: Sequence[str]) -> str:
    """Rules of the backend `name` whose servers are `slots`. Prompts are remembered where their variant asks for it
    and is alone; a session stays with its replica whatever else holds."""
    if not _alone(variants) or variants[0].affinity or variants[0].routing.strategy != "PREFIX_AWARE":
        return _SESSIONS
    routing = variants[0].routing
    full = "".join(
        _FULL.format(id=number, server=f"{name}/{slot}", threshold=routing.concurrency_threshold)
        for number, slot in enumerate(slots, 1)  # as HAProxy numbers a backend's servers
    )
    wait = f"{max(1, round(config.timeouts.body * 1000))}ms"
    return _SESSIONS + _PREFIXES.format(
        wait=wait, length=routing.prefix_length, openai=_OPENAI, before=_PROMPT, hint=PREFIX_ID, full=full
    )


def _alone(variants: Sequence[Backend]) -> bool:
    return len(variants) == 1 and not variants[0].split
