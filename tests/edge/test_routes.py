"""The pure half of the edge: slots, weights, and what the configuration says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.edge.choosing import quoted
from server.edge.render import Occupant, render
from server.edge.routes import Backend, EdgeConfig, RouteTable, Server, arrange, weights
from server.edge.runtime import agree, commands

CONFIG = EdgeConfig(Path("/run/hearth"), Path("/run/hearth/door.sock"))

names = st.from_regex(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,3}", fullmatch=True)
servers = st.builds(Server, id=st.text(max_size=4), host=st.sampled_from(["127.0.0.1", "10.1.2.3", "::1"]),
                    port=st.integers(1, 65535))  # fmt: skip
backends = st.builds(Backend, names, names, st.floats(0, 1e6), st.lists(servers, max_size=10).map(tuple),
                     st.integers(1, 1000))  # fmt: skip
tables = st.builds(
    RouteTable, st.lists(backends, max_size=6, unique_by=lambda b: b.key).map(tuple), st.none() | names
)


def table(*endpoints: Backend) -> RouteTable:
    return RouteTable(endpoints)


def backend(endpoint: str, *ports: int, name: str = "V", weight: float = 1.0) -> Backend:
    return Backend(endpoint, name, weight, tuple(Server(f"r{p}", "127.0.0.1", p) for p in ports), 8)


@given(tables)
def test_the_same_table_gives_the_same_files_in_any_order(table: RouteTable) -> None:
    assert render(table, CONFIG) == render(replace(table, backends=table.backends[::-1]), CONFIG)


@given(tables)
def test_every_address_is_in_the_configuration_and_every_name_in_a_map(table: RouteTable) -> None:
    files = render(table, CONFIG)
    maps = dict(line.split(" ") for line in (files.endpoints_map + files.variants_map).splitlines())
    for backend in table.backends:
        for name in (backend.endpoint, f"{backend.endpoint}/{backend.variant}"):
            assert f"\nbackend {maps[name]}\n" in files.config
        for server in backend.servers:
            weighed = weights(table.endpoints()[backend.endpoint])[backend.variant]
            assert Occupant(server.address, weighed[server.address]) in [
                files.servers[owner, slot] for owner, slot in files.servers if owner == f"ep.{backend.endpoint}"
            ]


@given(tables, tables)
def test_a_replica_keeps_its_slot(before: RouteTable, after: RouteTable) -> None:
    slots = arrange(before, {})
    moved = arrange(after, slots)
    for backend in after.backends:
        wanted = {server.address for server in backend.servers}
        assert {address for address in moved[backend.key] if address} == wanted
        for index, address in enumerate(slots.get(backend.key, ())):
            if address in wanted:
                assert moved[backend.key][index] == address


@given(tables, st.data())
def test_commands_lead_from_one_set_of_replicas_to_any_other(before: RouteTable, data: st.DataObject) -> None:
    changed = tuple(
        replace(b, servers=tuple(data.draw(st.lists(servers, max_size=8))), weight=data.draw(st.floats(0, 10)))
        for b in before.backends
    )
    slots = arrange(before, {})
    now = render(before, CONFIG, slots)
    then = render(replace(before, backends=changed), CONFIG, arrange(replace(before, backends=changed), slots))
    if now.structure == then.structure:
        simulated = dict(now.servers)
        for command in commands(now.servers, then.servers):
            _obey(simulated, command)
        assert agree(simulated, then.servers)


def _obey(servers: dict[tuple[str, str], Occupant], command: str) -> None:
    """What HAProxy does with `set server`; a server in maintenance has an address all the same."""
    _, _, name, *words = command.split()
    key = (name.partition("/")[0], name.partition("/")[2])
    match words:
        case ["state", "maint"]:
            servers[key] = replace(servers[key], address=None)
        case ["addr", host, "port", port]:
            servers[key] = replace(servers[key], address=(host, int(port)))
        case ["weight", weight]:
            servers[key] = replace(servers[key], weight=int(weight))
        case ["state", "ready"]:
            assert servers[key].address is not None
        case _:
            raise AssertionError(command)


def test_only_what_cannot_change_at_run_time_changes_the_structure() -> None:
    one = render(table(backend("a", 1)), CONFIG)
    assert render(table(backend("a", 2, 3, weight=7)), CONFIG).structure == one.structure
    for other in (
        table(backend("b", 1)),
        table(backend("a", 1), backend("a", 1, name="W")),
        table(backend("a", *range(1, 10))),
        RouteTable((backend("a", 1),), "a"),
    ):
        assert render(other, CONFIG).structure != one.structure
    assert render(table(backend("a", 1)), replace(CONFIG, buffer_bytes=32768)).structure != one.structure


def test_weights_divide_by_variant_not_by_replica() -> None:
    chosen = weights([backend("a", 1, 2, 3, name="A", weight=0.9), backend("a", 4, name="B", weight=0.1)])
    heavy, light = sum(chosen["A"].values()), sum(chosen["B"].values())
    assert heavy / (heavy + light) == 0.9
    none = weights([backend("a", 1, name="A", weight=0), backend("a", 2, name="B")])["A"]
    assert list(none.values()) == [0]


@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.05, 0.95))
def test_two_revisions_of_one_variant_get_their_shares(olds: int, news: int, share: float) -> None:
    old = [Server(f"old{n}", "127.0.0.1", 100 + n, (1 - share) / olds) for n in range(olds)]
    new = [Server(f"new{n}", "127.0.0.1", 200 + n, share / news) for n in range(news)]
    chosen = weights([Backend("a", "V", 1.0, (*old, *new), 8, split=True)])["V"]
    got = sum(chosen[server.address] for server in new) / sum(chosen.values())
    assert got == pytest.approx(share, abs=0.02)


def test_a_target_variant_gets_its_own_shares_and_keeps_them() -> None:
    pair = (Server("old", "127.0.0.1", 1, 3.0), Server("new", "127.0.0.1", 2, 1.0))
    split = Backend("a", "V", 0.0, pair, 8, split=True)
    files = render(table(split, backend("a", 3, name="W")), CONFIG)
    weighed = {o.address: o.weight for (owner, _), o in files.servers.items() if owner == "ep.a.V"}
    assert weighed["127.0.0.1", 1] == 3 * weighed["127.0.0.1", 2] > 0
    assert "backend ep.a.V\n  balance roundrobin" in files.config
    assert "backend ep.a\n  balance roundrobin" in render(table(split), CONFIG).config
    assert "backend ep.a\n  balance leastconn" in render(table(replace(split, split=False)), CONFIG).config


@given(st.lists(st.tuples(st.floats(0.001, 1), st.integers(1, 5)), min_size=1, max_size=4))
def test_weights_are_legal_and_positive(shares: list[tuple[float, int]]) -> None:
    variants = [backend("a", *range(1, n + 1), name=f"v{i}", weight=w) for i, (w, n) in enumerate(shares)]
    assert all(1 <= weight <= 256 for each in weights(variants).values() for weight in each.values())


@pytest.mark.parametrize(
    "name", ["", "a.b", "a b", "a\n", "a/b", "-a", "x" * 64, "é", "a;b", "%61", "a" + "-" * 62 + "b"]
)
def test_names_that_could_break_out_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no endpoint"):
        Backend(name, "V", 1, (), 1)
    with pytest.raises(ValueError, match="is no endpoint"):
        Backend("a", name, 1, (), 1)
    with pytest.raises(ValueError, match="is no endpoint"):
        RouteTable((), name)


@pytest.mark.parametrize(("host", "port"), [("evil host", 1), ("127.0.0.1\n", 1), ("127.0.0.1", 0), ("::1", 65536)])
def test_addresses_that_could_break_out_are_refused(host: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        Server("r", host, port)


@given(tables)
def test_a_table_survives_its_file(table: RouteTable) -> None:
    assert RouteTable.from_wire(table.to_wire()) == table


def test_what_the_configuration_must_never_lose() -> None:
    text = render(table(backend("a", 1)), CONFIG).config
    for line in ("option http-no-delay", "option abortonclose", "http-reuse always", "option redispatch 1"):
        assert f"\n  {line}\n" in text
    assert re.findall(r"^  bind (\S+)", text, re.MULTILINE)[0] == "'127.0.0.1:8080'"
    assert text.count("mode 600") == 4


def test_a_path_is_one_word_or_refused() -> None:
    assert quoted("a b'c") == "'a b'\\''c'"
    with pytest.raises(ValueError, match="control"):
        quoted("a\nb")
