"""HAProxy's runtime sockets: what runs now, and how to change it without a reload."""

from __future__ import annotations

import csv
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from server.edge.render import DOOR, STRUCTURE, Occupant, ServerName
from server.edge.routes import Address, Slots

COMMANDS_AT_ONCE = 100
SILENT = "L4TOUT"
"""HAProxy's name for a check whose connection nobody answered in time."""
FORCED_MAINTENANCE = 1
"""Bit of HAProxy's administrative state that `set server ... state` changes."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a running HAProxy holds."""

    structure: str
    servers: Mapping[ServerName, Occupant]

    @property
    def slots(self) -> Slots:
        """Slots of each endpoint's own backend (``ep.NAME``), which holds those of all its variants."""
        found: dict[tuple[str, str], dict[int, Address | None]] = {}
        for (backend, name), occupant in self.servers.items():
            variant, _, index = name.rpartition(".")
            if backend.count(".") == 1:
                found.setdefault((backend.removeprefix("ep."), variant), {})[int(index)] = occupant.address
        return {key: tuple(seats[index] for index in sorted(seats)) for key, seats in found.items()}


def ask(path: Path, command: str, timeout_s: float = 5.0) -> str:
    """HAProxy's answer to one line. Raises OSError when nothing answers there within `timeout_s`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def running(path: Path) -> Running | None:
    """None when no HAProxy of ours answers at `path`, or one breaks off while it does."""
    try:
        answer = ask(path, f"get var {STRUCTURE}; show servers state")
    except OSError:
        return None
    head, _, states = answer.partition("\n\n")
    if not head.startswith(f"{STRUCTURE}: type=str value=<") or not states.endswith("\n\n"):
        return None
    return Running(head.partition("<")[2].rstrip().removesuffix(">"), parse_states(states))


def parse_states(text: str) -> dict[ServerName, Occupant]:
    """Replica servers in the answer to ``show servers state``, whose second line names the columns."""
    lines = [line for line in text.splitlines() if line and not line.isdigit()]
    columns = lines[0].removeprefix("# ").split() if lines else []
    rows = (dict(zip(columns, line.split(), strict=True)) for line in lines[1:])
    return {
        (row["be_name"], row["srv_name"]): _occupant(row)
        for row in rows
        if row["be_name"].startswith("ep.") and row["srv_name"] != DOOR
    }


def _occupant(row: Mapping[str, str]) -> Occupant:
    spare = int(row["srv_admin_state"]) & FORCED_MAINTENANCE
    address = None if spare else (row["srv_addr"], int(row["srv_port"]))
    return Occupant(address, int(row["srv_uweight"]))


def commands(now: Mapping[ServerName, Occupant], wanted: Mapping[ServerName, Occupant]) -> list[str]:
    """What takes HAProxy from one state to the other; both have the same servers."""
    return [
        f"set server {backend}/{name} {change}"
        for (backend, name), occupant in wanted.items()
        for change in _changes(now[backend, name], occupant)
    ]


def _changes(now: Occupant, wanted: Occupant) -> Iterator[str]:
    if wanted.address is None:
        if now.address is not None:
            yield "state maint"
        return
    if now.address != wanted.address:
        host, port = wanted.address
        if now.address is not None:
            yield "state maint"
        yield f"addr {host} port {port}"
    if now.weight != wanted.weight:
        yield f"weight {wanted.weight}"
    if now.address != wanted.address:
        yield "state ready"


def agree(now: Mapping[ServerName, Occupant], wanted: Mapping[ServerName, Occupant]) -> bool:
    return now.keys() == wanted.keys() and not commands(now, wanted)


def send(path: Path, lines: Sequence[str]) -> None:
    """HAProxy's answers are prose: read back what runs to learn whether it obeyed. Raises OSError."""
    rest = iter(lines)
    while batch := list(islice(rest, COMMANDS_AT_ONCE)):
        ask(path, "; ".join(batch))


def unreachable(path: Path) -> set[Address]:
    """Replicas whose machine is silent: it does not even refuse the connection of a check. Raises OSError."""
    rows = csv.DictReader(ask(path, "show stat -1 4 -1").removeprefix("# ").splitlines())
    silent = (row["addr"] for row in rows if row["check_status"] == SILENT)
    found = (address.rpartition(":") for address in silent)
    return {(host.strip("[]"), int(port)) for host, _, port in found}


def cuts(
    now: Mapping[ServerName, Occupant], wanted: Mapping[ServerName, Occupant], silent: Collection[Address]
) -> list[str]:
    """What ends the sessions with replicas that go and are `silent`, as nothing would ever tell their clients; one that
    goes and can be reached finishes what it has. Both states have the same servers."""
    return [
        f"shutdown sessions server {backend}/{name}"
        for (backend, name), occupant in now.items()
        if occupant.address in silent and occupant.address != wanted[backend, name].address
    ]


def replaced(master: Path) -> bool:
    """Whether every worker that a reload replaced has ceased to accept connections. Raises OSError."""
    _, _, old = ask(master, "show proc").partition("# old workers\n")
    pids = [line.split()[0] for line in old.splitlines() if " worker " in line]
    answers = (ask(master, f"@!{pid} show info") for pid in pids)
    # A worker that has gone meanwhile answers nothing of the kind.
    return not any("\nStopping: 0" in answer for answer in answers)
