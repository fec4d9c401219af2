"""Whose endpoint a request is for, as far as its head says: the part of HAProxy's configuration that chooses. Pure."""

from __future__ import annotations

from pathlib import Path

from server.edge.routes import EdgeConfig, RouteTable
from server.identity import names

OWN = "own"
"""How the edge calls this Hearth's own account."""

PLACED = f"""\
  http-request set-var(txn.place) var(txn.endpoint) \
if {{ var(txn.account) -m str {OWN} }} !{{ var(txn.endpoint) -m sub : }}
  http-request set-var(txn.place) var(txn.account),concat(:,txn.endpoint) \
if {{ var(txn.account) -m found }} !{{ var(txn.account) -m str {OWN} }}
  http-request set-var(txn.place) var(txn.place),concat(_,txn.component) \
if {{ var(txn.place) -m found }} {{ var(txn.component) -m found }}"""
"""From account, endpoint and inference component to the place."""

COMPONENT = """\
  http-request set-var(txn.component) req.fhdr(x-amzn-sagemaker-inference-component),bytes(0,128)
  http-request set-var(txn.component) path,field(5,/),bytes(0,128) \
if { path -m reg ^/endpoints/[^/]+/inference-components/ }"""
"""The inference component that a request names; the address goes before the header."""

_BY_MODEL = """\
  acl by_model path -m reg ^/endpoints/[^/]+/openai/
  http-request set-var(txn.component) req.body,json_query('$.model'),bytes(0,128) \
if METH_POST by_model {{ var(txn.place) -m found }} !{{ var(txn.backend) -m found }} !{{ var(txn.component) -m found }}
  http-request set-var(txn.named) var(txn.place),concat(_,txn.component) \
if by_model {{ var(txn.component) -m found }} !{{ var(txn.backend) -m found }}
  http-request set-var(txn.backend) var(txn.named),map_str({endpoints}) if {{ var(txn.named) -m found }}
  http-request set-var(txn.place) var(txn.named) \
if {{ var(txn.named) -m found }} {{ var(txn.backend) -m found }}"""
"""OpenAI's clients name a component as their model, where the address names its endpoint."""

_CHOSEN = """\
  http-request set-var(txn.backend) var(txn.place),map_str({endpoints}) if !{{ var(txn.variant) -m found }}
  http-request set-var(txn.backend) var(txn.place),concat(/,txn.variant),map_str({variants}) \
if {{ var(txn.variant) -m found }}"""

_NAMED = """\
  http-request set-var(txn.bearer) req.fhdr(authorization),word(2,' ') if {{ req.fhdr(authorization) -m beg -i bearer }}
  http-request set-var(txn.key) req.fhdr(authorization),field(2,=),bytes(4,9) \
if {{ req.fhdr(authorization) -m beg AWS4- }}
  http-request set-var(txn.key) url_param(X-Amz-Credential),bytes(4,9) if !{{ req.fhdr(authorization) -m found }}
  http-request set-var(txn.key) var(txn.bearer),bytes(3,12) if {{ var(txn.bearer) -m reg ^hk-[0-9]{{12}}[.] }}
  http-request set-var(txn.key) \
var(txn.bearer),bytes(18),b64dec,param(X-Amz-Credential),bytes(4,9) if {{ var(txn.bearer) -m beg sagemaker-api-key- }}
  http-request set-var(txn.account) var(txn.key),map_str({accounts}) if {{ var(txn.key) -m found }}
  http-request set-var(txn.account) str({own}) \
if !{{ var(txn.key) -m found }} !{{ var(txn.bearer) -m beg sagemaker-api-key- }}"""
"""What a caller says of its account. A key that names none of those there are leads to the door, which decides."""


def accounts_map(table: RouteTable) -> str:
    """From what a credential says of its account to the account: what follows the first four letters of an access
    key's id, and the number that an API key begins with."""
    if not table.tenants:
        return ""
    marks = {table.own: OWN, **{tenant: tenant for tenant in sorted(table.tenants)}}
    return "".join(
        f"{hint} {mark}\n" for account, mark in marks.items() for hint in (account, *names.beginnings(account))
    )


def caller_of(config: EdgeConfig, table: RouteTable) -> str:
    """From credentials to the account; where there is but one, they are not looked at."""
    if not table.tenants:
        return f"  http-request set-var(txn.account) str({OWN})"
    return _NAMED.format(accounts=quoted(config.accounts_map), own=OWN)


def backend_of(config: EdgeConfig) -> str:
    """From place and variant to the backend; none where there is no such endpoint."""
    return _CHOSEN.format(endpoints=quoted(config.endpoints_map), variants=quoted(config.variants_map))


def component_of(config: EdgeConfig) -> str:
    """For a request without a backend: that of the component which its body names."""
    return _BY_MODEL.format(endpoints=quoted(config.endpoints_map))


def quoted(value: str | Path) -> str:
    """One word of HAProxy's configuration. Raises ValueError for what cannot be one."""
    text = str(value)
    if any(ord(character) < 32 for character in text):
        raise ValueError(f"{text!r} holds a control character")
    return "'" + text.replace("'", "'\\''") + "'"
