"""What the edge routes: a table of endpoints, variants and the replicas behind them. Pure.

`server.edge.render` turns a table into HAProxy's configuration. A replica comes and goes without a new
configuration because every variant has spare *slots*: servers that HAProxy knows but keeps in maintenance.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.nodes import NodeFiles
from server.spec import NAME_PATTERN, RoutingStrategy

FEWEST_SLOTS = 8
HIGHEST_WEIGHT = 256
"""HAProxy's own limit for a server's weight."""

LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class Server:
    """One replica's listener. Raises ValueError when `host` is no IP address or `port` no port."""

    id: str
    host: str
    port: int
    share: float = 1.0
    """Its part of its variant's traffic, relative to the variant's other servers."""

    def __post_init__(self) -> None:
        if not 0 <= self.share < float("inf"):
            raise ValueError(f"share {self.share} of replica {self.id} is not a share of traffic")
        ipaddress.ip_address(self.host)
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port} of replica {self.id} is not in 1..65535")

    @property
    def address(self) -> Address:
        return str(ipaddress.ip_address(self.host)), self.port


Address = tuple[str, int]


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME or re.fullmatch(NAME_PATTERN, name) is None or name.endswith("\n"):
        raise ValueError(f"{name[:80]!r} is no endpoint or variant name")


def _check_account(account: str) -> None:
    if account and re.fullmatch(r"[0-9]{12}", account) is None:
        raise ValueError(f"{account[:80]!r} is no account")


@dataclass(frozen=True, slots=True)
class Routing:
    """How a variant's requests are divided among its replicas (`server.spec.Routing`)."""

    strategy: RoutingStrategy = "LEAST_OUTSTANDING_REQUESTS"
    prefix_length: int = 1024
    concurrency_threshold: int = 16


@dataclass(frozen=True, slots=True)
class Backend:
    """One variant of an endpoint. Raises ValueError for a name that SageMaker would refuse."""

    endpoint: str
    variant: str
    weight: float
    servers: tuple[Server, ...]
    max_in_flight: int
    """What one replica admits; the edge queues shortly, then refuses, at twice as many."""
    split: bool = False
    """Whether the servers' shares must be kept exactly, because they are of two revisions."""
    account: str = ""
    """Whose endpoint it is; empty: this Hearth's own."""
    routing: Routing = Routing()
    component: str = ""
    """The inference component that it is, if it is one."""
    affinity: str = ""
    """Header whose value picks the replica, so that equal ones meet again; empty: none does."""

    def __post_init__(self) -> None:
        for name in (self.endpoint, self.variant, *((self.component,) if self.component else ())):
            _check_name(name)
        if re.fullmatch(r"[a-z0-9-]*", self.affinity) is None:
            raise ValueError(f"{self.affinity[:80]!r} is no header in lower case")
        _check_account(self.account)
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight {self.weight} of {self.endpoint}/{self.variant} is not a share of traffic")

    @property
    def place(self) -> str:
        return place(self.account, self.endpoint, self.component)

    @property
    def key(self) -> Key:
        return self.place, self.variant


Key = tuple[str, str]
"""Place of an endpoint, and variant."""


def place(account: str, endpoint: str, component: str = "") -> str:
    """What tells an endpoint, or one of its inference components, from those of other accounts. No name has a colon or
    an underscore, so nobody asks for another's."""
    own = f"{endpoint}_{component}" if component else endpoint
    return f"{account}:{own}" if account else own


Slots = Mapping[Key, tuple[Address | None, ...]]
"""Who occupies each slot of each variant; None is a spare one."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Every variant of every endpoint. Raises ValueError when two backends have the same names."""

    backends: tuple[Backend, ...] = ()
    default_endpoint: str | None = None
    """Endpoint behind the container contract's bare ``/invocations``."""
    tenants: tuple[str, ...] = ()
    """Accounts beside this Hearth's own whose callers are told from its own; none where nobody is asked."""
    own: str = ""
    """This Hearth's own account; needed where there are tenants."""
    concurrency: Mapping[str, int] = field(default_factory=dict)
    """Requests in flight and waiting that an endpoint, by its place, may have; of those that have such a bound."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names of places; those that lead nowhere are as unknown as any other."""

    def __post_init__(self) -> None:
        for account in (*self.tenants, self.own):
            _check_account(account)
        if len({backend.key for backend in self.backends}) != len(self.backends):
            raise ValueError("two backends have the same endpoint and variant")
        for account, _, name in (each.rpartition(":") for each in self.concurrency):
            _check_account(account)
            _check_name(name)
        for alias in self.aliases:
            account, _, name = alias.rpartition(":")
            _check_account(account)
            for part in name.split("_"):
                _check_name(part)
        if self.default_endpoint is not None:
            _check_name(self.default_endpoint)
        if bad := [name for name, most in self.concurrency.items() if most < 1]:
            raise ValueError(f"the concurrency of {', '.join(bad)} is below 1")

    def endpoints(self) -> dict[str, tuple[Backend, ...]]:
        """Variants by the place of their endpoint, both in order of their names."""
        grouped: dict[str, list[Backend]] = {}
        for backend in sorted(self.backends, key=lambda backend: backend.key):
            grouped.setdefault(backend.place, []).append(backend)
        return {name: tuple(variants) for name, variants in grouped.items()}

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> RouteTable:
        """Raises KeyError, TypeError or ValueError for what `to_wire` did not make."""
        backends = tuple(
            Backend(**{**backend, "servers": tuple(Server(**server) for server in backend["servers"]),
                       "routing": Routing(**backend.get("routing", {}))})
            for backend in message["backends"]
        )  # fmt: skip
        tenants, own = tuple(message.get("tenants", ())), message.get("own", "")
        concurrency = {str(name): int(most) for name, most in message.get("concurrency", {}).items()}
        aliases = dict(message.get("aliases", {}))
        return cls(backends, message["default_endpoint"], tenants, own, concurrency, aliases)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `client` bounds a reader that takes nothing, `server` a replica that says nothing."""

    connect: float = 2.0
    headers: float = 10.0
    body: float = 30.0
    client: float = 60.0
    keep_alive: float = 75.0
    server: float = 3600.0
    queue: float = 5.0
    check: float = 5.0
    drain: float = 600.0


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Where the edge binds, where it keeps its files, and its bounds."""

    run_dir: Path
    door_socket: Path
    host: str = "127.0.0.1"
    port: int = 8080
    threads: int | None = None
    """None: one for each core."""
    buffer_bytes: int = 64 * 1024
    """A JSON body whose `model` lies beyond this goes to the door."""
    max_connections: int = 4096
    certificate: Path | None = None
    """Certificate, chain and key in one file; None: plain HTTP."""
    client_authority: Path | None = None
    """Who signs the certificates that clients must show; None: they are not asked for any."""
    nodes: NodeFiles | None = None
    """What the edge shows replicas, and verifies them with; None: it talks plainly to them."""
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def bind(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def internal_socket(self) -> Path:
        """Where the door reaches replicas through the edge, and `/metrics` is."""
        return self.run_dir / "internal.sock"

    @property
    def fallback_socket(self) -> Path:
        """From a backend without replicas back to the door."""
        return self.run_dir / "fallback.sock"

    @property
    def runtime_socket(self) -> Path:
        return self.run_dir / "edge.sock"

    @property
    def master_socket(self) -> Path:
        return self.run_dir / "master.sock"

    @property
    def peers_socket(self) -> Path:
        """Where a worker tells the one after it what it remembers."""
        return self.run_dir / "peers.sock"

    @property
    def config_file(self) -> Path:
        return self.run_dir / "haproxy.cfg"

    @property
    def endpoints_map(self) -> Path:
        return self.run_dir / "endpoints.map"

    @property
    def accounts_map(self) -> Path:
        return self.run_dir / "accounts.map"

    @property
    def variants_map(self) -> Path:
        return self.run_dir / "variants.map"

    @property
    def concurrency_map(self) -> Path:
        return self.run_dir / "concurrency.map"

    @property
    def table_file(self) -> Path:
        """The table applied last; a restarted edge comes back with it."""
        return self.run_dir / "routes.json"


def arrange(table: RouteTable, previous: Slots) -> Slots:
    """A slot for each replica: the one it has in `previous`, else the first spare one.

    The number of a variant's slots doubles when they run out and never shrinks.
    """
    return {backend.key: _seats(backend, previous.get(backend.key, ())) for backend in table.backends}


def _seats(backend: Backend, previous: Sequence[Address | None]) -> tuple[Address | None, ...]:
    wanted = list(dict.fromkeys(server.address for server in backend.servers))
    size = max(FEWEST_SLOTS, len(previous))
    while size < len(wanted):
        size *= 2
    seats = [address if address in wanted else None for address in previous]
    seats += [None] * (size - len(seats))
    spare = (index for index, address in enumerate(seats) if address is None)
    for address in wanted:
        if address not in seats:
            seats[next(spare)] = address
    return tuple(seats)


def weights(variants: Sequence[Backend]) -> dict[str, dict[Address, int]]:
    """Weight of each server, so that traffic divides among variants by their weights, within one by its shares.

    Whole numbers up to 256 that come closest to the wanted ratios; above 0 wherever weight and share are.
    """
    heaviest = max((v.weight for v in variants), default=0.0)
    parts = {
        (v.variant, server.address): v.weight / heaviest * server.share / total
        for v in variants
        if v.weight > 0 and (total := sum(server.share for server in v.servers)) > 0
        for server in v.servers
    }
    top = max(parts.values(), default=1.0)
    ratios = {key: part / top for key, part in parts.items()}
    distinct = {ratio for ratio in ratios.values() if ratio > 0}
    best = min(range(HIGHEST_WEIGHT, 0, -1), key=lambda scale: _misfit(distinct, scale))
    return {
        v.variant: {s.address: _rounded(ratios.get((v.variant, s.address), 0.0) * best) for s in v.servers}
        for v in variants
    }


def _misfit(ratios: Collection[float], scale: int) -> float:
    return max((abs(_rounded(ratio * scale) / (ratio * scale) - 1) for ratio in ratios), default=0.0)


def _rounded(weight: float) -> int:
    return max(1, round(weight)) if weight > 0 else 0
