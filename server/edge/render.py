"""From a route table to HAProxy's configuration: the same table gives the same bytes. Pure."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from server.edge.affinity import PEER, balance, peers, remembered
from server.edge.bounds import CONCURRENCY, COUNTED, bounds
from server.edge.choosing import COMPONENT, PLACED, accounts_map, backend_of, caller_of, component_of, quoted
from server.edge.replies import door_away, error_lines
from server.edge.routes import Address, Backend, EdgeConfig, RouteTable, Slots, arrange, weights

STRUCTURE = "proc.structure"
"""HAProxy variable that holds the hash of everything which only a reload can change."""

DOOR = "door"
REPLICA_PATHS = (
    "^/endpoints/[^/]+/(invocations|invocations-response-stream|(inference-components/[^/]+/)?openai/v1/[A-Za-z0-9_/-]+)$"
)
"""What goes straight to a replica; all else below `/endpoints/` is the door's."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """What a slot should hold: None for `address` is a spare one."""

    address: Address | None
    weight: int


ServerName = tuple[str, str]
"""HAProxy's backend and server."""


@dataclass(frozen=True, slots=True)
class Files:
    """What HAProxy reads, and what it should then be found to hold."""

    config: str
    endpoints_map: str
    variants_map: str
    accounts_map: str
    concurrency_map: str
    structure: str
    servers: Mapping[ServerName, Occupant]


def backend_name(endpoint: str, variant: str | None = None) -> str:
    """`endpoint` is a place. Names cannot hold a dot, so an endpoint's backend never meets one of the edge's own."""
    return f"ep.{endpoint}" if variant is None else f"ep.{endpoint}.{variant}"


def slot_name(variant: str, index: int) -> str:
    return f"{variant}.{index}"


def render(table: RouteTable, config: EdgeConfig, slots: Slots | None = None) -> Files:
    """`slots` as `arrange` gave them; None: as for a table seen for the first time."""
    slots = arrange(table, {}) if slots is None else slots
    servers = _servers(table, slots)
    endpoints = table.endpoints()
    led = {name: name for name in endpoints} | {a: to for a, to in table.aliases.items() if to in endpoints}
    endpoints_map = "".join(f"{name} {backend_name(led[name])}\n" for name in sorted(led))
    variants_map = "".join(_variant_lines(name, led[name], endpoints[led[name]]) for name in sorted(led))
    concurrency_map = "".join(f"{name} {most}\n" for name, most in sorted(table.concurrency.items()))
    empty = {name: Occupant(None, 0) for name in servers}
    accounts = accounts_map(table)
    maps = (endpoints_map, variants_map, accounts, concurrency_map)
    shape = "\0".join((_global(config, ""), _sections(table, config, empty), *maps))
    structure = hashlib.sha256(shape.encode()).hexdigest()[:16]
    text = _global(config, structure) + _sections(table, config, servers)
    return Files(text, endpoints_map, variants_map, accounts, concurrency_map, structure, servers)


def _variant_lines(name: str, place: str, variants: Sequence[Backend]) -> str:
    single = len(variants) == 1
    return "".join(
        f"{name}/{v.variant} {backend_name(place, None if single else v.variant)}\n" for v in variants
    )


def _servers(table: RouteTable, slots: Slots) -> dict[ServerName, Occupant]:
    servers: dict[ServerName, Occupant] = {}
    for endpoint, variants in table.endpoints().items():
        among = weights(variants)
        for backend in variants:
            within = weights([replace(backend, weight=1.0)])[backend.variant]
            for index, address in enumerate(slots[backend.key]):
                slot = slot_name(backend.variant, index)
                servers[backend_name(endpoint), slot] = _occupant(address, among[backend.variant])
                if len(variants) > 1:
                    servers[backend_name(endpoint, backend.variant), slot] = _occupant(address, within)
    return servers


def _occupant(address: Address | None, weighed: Mapping[Address, int]) -> Occupant:
    return Occupant(address, 0 if address is None else weighed[address])


def _sections(table: RouteTable, config: EdgeConfig, servers: Mapping[ServerName, Occupant]) -> str:
    sections = [_defaults(config), _public(config, table), _internal(config), _door(config), peers(config)]
    for endpoint, variants in table.endpoints().items():
        sections.append(_endpoint(config, endpoint, variants, servers))
        if len(variants) > 1:
            sections += [_target(config, backend, servers) for backend in variants]
    return "\n".join(sections)


def _global(config: EdgeConfig, structure: str) -> str:
    threads = f"  nbthread {config.threads}\n" if config.threads else ""
    return f"""\
global
{threads}  maxconn {config.max_connections}
  tune.bufsize {config.buffer_bytes}
  stats socket {quoted(config.runtime_socket)} mode 600 level admin expose-fd listeners
  hard-stop-after {_ms(config.timeouts.drain)}
  localpeer {PEER}
  set-var {STRUCTURE} str({structure})

"""


def _defaults(config: EdgeConfig) -> str:
    times = config.timeouts
    return f"""\
defaults
  mode http
  timeout connect {_ms(times.connect)}
  timeout http-request {_ms(times.headers)}
  timeout client {_ms(times.client)}
  timeout http-keep-alive {_ms(times.keep_alive)}
  timeout server {_ms(times.server)}
  timeout tunnel {_ms(times.server)}
  timeout queue {_ms(times.queue)}
  timeout check {_ms(times.check)}
  option http-no-delay
  option abortonclose
  option idle-close-on-response
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
  http-reuse always
{error_lines()}
"""


_LOG = (
    '{"time":%Ts.%ms,"event":"request","component":"edge",'
    '"frontend":"%f","request_id":"%[var(txn.request)]","client":"%ci","method":"%[var(txn.method)]",'
    '"path":"%[var(txn.path)]","account":"%[var(txn.account),json(utf8s)]","endpoint":"%[var(txn.endpoint),json(utf8s)]","backend":"%b","server":"%s",'
    '"replica":"%si:%sp","status":%ST,"received_ms":%TR,"queued_ms":%Tw,"connect_ms":%Tc,"first_byte_ms":%Tr,'
    '"total_ms":%Ta,"bytes_in":%U,"bytes_out":%B,"retries":"%rc","ended":"%ts"}'
)

_NOTED = """\
  http-request set-var(txn.method) method,json(utf8s)
  http-request set-var(txn.path) path,bytes(0,256),json(utf8s)"""

def _logged() -> str:
    return f"  log stdout len 4096 format raw local0 info\n  log-format '{_LOG}'"


def _public(config: EdgeConfig, table: RouteTable) -> str:
    rewrite, default_endpoint = "", table.default_endpoint
    if default_endpoint is not None:
        rewrite = (
            f"\n  http-request set-path /endpoints/{default_endpoint}%[path]"
            " if { path /invocations /invocations-response-stream }"
        )
    return f"""\
frontend public
  bind {quoted(config.bind)} {_tls(config)}proto h1
{_logged()}
  unique-id-format %[uuid()]
{_NOTED}
  http-request set-var(txn.request) req.fhdr(x-request-id) \
if {{ req.fhdr_cnt(x-request-id) 1 }} {{ req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._-]{{1,64}}$ }}
  http-request set-var(txn.request) unique-id if !{{ var(txn.request) -m found }}
  http-request set-header x-request-id %[var(txn.request)]
  http-request del-header x-hearth- -m beg
  http-request del-header forwarded
  http-request set-header x-forwarded-for %[src]
  http-request set-header x-forwarded-proto {"http" if config.certificate is None else "https"}
  http-after-response set-header x-request-id %[var(txn.request)] if {{ var(txn.request) -m found }}
  http-after-response del-header x-hearth-no-server{rewrite}
  acl replica_path path -m reg {REPLICA_PATHS}
  acl model_path path_beg /v1/
  http-request wait-for-body time {_ms(config.timeouts.body)} if METH_POST replica_path or METH_POST model_path
  http-request set-var(txn.endpoint) path,field(3,/),bytes(0,128) if replica_path
  http-request set-var(txn.endpoint) req.body,json_query('$.model'),bytes(0,128) if METH_POST model_path
  http-request set-var(txn.variant) req.fhdr(x-amzn-sagemaker-target-variant),bytes(0,128)
{caller_of(config, table)}
{COMPONENT}
{PLACED}
{backend_of(config)}
{component_of(config)}
{bounds(config)}
  http-request set-header {COUNTED} 1 if {{ var(txn.most) -m found }}
  use_backend %[var(txn.backend)] if {{ var(txn.backend) -m found }}
  default_backend {DOOR}
"""


def _tls(config: EdgeConfig) -> str:
    if config.certificate is None:
        return ""
    asked = f"ca-file {quoted(config.client_authority)} verify required " if config.client_authority else ""
    return f"ssl crt {quoted(config.certificate)} {asked}ssl-min-ver TLSv1.2 alpn http/1.1 "


def _internal(config: EdgeConfig) -> str:
    return f"""\
frontend internal
  bind {quoted(f"unix@{config.internal_socket}")} mode 600 proto h1
{_logged()}
{_NOTED}
  acl for_endpoint req.fhdr(x-hearth-endpoint) -m found
  http-request set-log-level silent if {{ path /metrics }} !for_endpoint
  http-request use-service prometheus-exporter if {{ path /metrics }} !for_endpoint
  http-request set-var(txn.request) req.fhdr(x-request-id)
  http-request set-var(txn.place) req.fhdr(x-hearth-endpoint),bytes(0,128)
  http-request set-var(txn.endpoint) var(txn.place)
  http-request set-var(txn.variant) req.fhdr(x-amzn-sagemaker-target-variant),bytes(0,128)
  http-request set-var(txn.variant) req.fhdr(x-hearth-variant),bytes(0,128) if {{ req.fhdr(x-hearth-variant) -m found }}
  http-request set-var(txn.counted) req.fhdr({COUNTED})
  http-request del-header x-hearth- -m beg
  http-request set-header x-hearth-through internal
{backend_of(config)}
{bounds(config, " !{ var(txn.counted) -m found }")}
  http-request wait-for-body time {_ms(config.timeouts.body)} if !{{ var(txn.backend) -m found }}
  http-request deny deny_status 503 if !{{ var(txn.backend) -m found }}
  use_backend %[var(txn.backend)]

frontend fallback
  bind {quoted(f"unix@{config.fallback_socket}")} mode 600 proto h1
  http-request set-var(txn.request) req.fhdr(x-request-id)
  http-request wait-for-body time {_ms(config.timeouts.body)}
  http-request deny deny_status 503 if {{ req.fhdr(x-hearth-through) -m found }}
  default_backend {DOOR}
"""


def _door(config: EdgeConfig) -> str:
    # The supervisor holds the door's socket open, so requests wait in it for a door that is being restarted. What the
    # door may have begun is not sent again: a create that came twice would be refused the second time.
    return f"""\
backend {DOOR}
  retry-on conn-failure
{door_away()}
  server {DOOR} {quoted(f"unix@{config.door_socket}")}

backend {CONCURRENCY}
  stick-table type string len 96 size 16k expire 1h store conn_cur
"""


def _endpoint(
    config: EdgeConfig, endpoint: str, variants: Sequence[Backend], servers: Mapping[ServerName, Occupant]
) -> str:
    name = backend_name(endpoint)
    lines = [_server_line(config, name, backend, servers, "") for backend in variants]
    return f"""\
backend {name}
  balance {balance(variants)}
{remembered(config, name, variants, _slots(name, servers))}  option httpchk
  http-check send meth GET uri /ping ver HTTP/1.1 hdr host edge
  http-check expect status 200
  default-server check inter 500ms fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down
{"".join(lines)}  server {DOOR} {quoted(f"unix@{config.fallback_socket}")} backup non-stick no-check
"""


def _target(config: EdgeConfig, backend: Backend, servers: Mapping[ServerName, Occupant]) -> str:
    name = backend_name(backend.place, backend.variant)
    lines = _server_line(config, name, backend, servers, backend_name(backend.place))
    return f"""\
backend {name}
  balance {balance([backend])}
{remembered(config, name, [backend], _slots(name, servers))}\
{lines}  server {DOOR} {quoted(f"unix@{config.fallback_socket}")} backup non-stick
"""


def _slots(name: str, servers: Mapping[ServerName, Occupant]) -> list[str]:
    return [slot for backend, slot in servers if backend == name]


def _server_line(
    config: EdgeConfig, name: str, backend: Backend, servers: Mapping[ServerName, Occupant], tracked: str
) -> str:
    ceiling = 2 * backend.max_in_flight
    lines = []
    names = (slot_name(backend.variant, index) for index in itertools.count())
    for slot in itertools.takewhile(lambda slot: (name, slot) in servers, names):
        occupant = servers[name, slot]
        track = f" track {tracked}/{slot}" if tracked else ""
        where = "127.0.0.1:1" if occupant.address is None else _where(occupant.address)
        state = " disabled" if occupant.address is None else ""
        lines.append(
            f"  server {slot} {where} weight {occupant.weight} maxconn {ceiling}{_node_tls(config)}{track}{state}\n"
        )
    return "".join(lines)


def _node_tls(config: EdgeConfig) -> str:
    if config.nodes is None:
        return ""
    return (
        f" ssl verify required ca-file {quoted(config.nodes.authority)} crt {quoted(config.nodes.bundle)}"
        " ssl-min-ver TLSv1.2"
    )


def _where(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
