"""A controller of several accounts: each with what it has, whatever others call theirs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.beat import Beat
from server.controller.alarms import Alarms
from server.controller.feed import Feed
from server.controller.loop import Controller
from server.controller.meter import Meter, measured
from server.controller.tenants import home_of
from server.identity.accounts import Accounts
from server.identity.directory import ACCESS_KEY, GLOBAL, Directory, note_used
from server.identity.names import access_key_id
from server.metrics.distribution import Distribution
from server.metrics.series import MetricStore
from server.replicas.names import AppName
from server.spec import EndpointSpec, VariantSpec
from server.store import alarms
from server.store.store import Store
from tests.controller.rehearsal import HOME, NAME, Rehearsal

SPEC = EndpointSpec(name=NAME, variants=(VariantSpec(model="one"),))


class Played(Rehearsal):
    """With another account, both having an endpoint of the same name."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = self.settings.model_copy(update={"auth": "required"})
        (folder / "logs").mkdir()
        self.home = replace(
            HOME, account=self.settings.account, log_dir=str(folder / "logs"), cache_dir="cache", objects_dir="objects"
        )
        accounts = Accounts(self.store, self.settings.account)
        self.number = accounts.unused()
        accounts.create(self.number, "other")
        self.accounts, self.other = accounts, self.store.of(self.number)
        self.controller = self.born()

    def born(self) -> Controller:
        made = super().born()
        made.home = getattr(self, "home", HOME)
        return made

    def both(self) -> list[Store]:
        return [self.store, self.other]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path)
    yield made
    made.store.engine.dispose()


def test_endpoints_of_one_name_are_two(played: Played) -> None:
    for store in played.both():
        store.create("Endpoint", NAME, SPEC.model_dump(mode="json"), "Creating")
    for _ in range(20):
        played.run(1)
    assert [store.get("Endpoint", NAME).status for store in played.both()] == ["InService"] * 2
    assert {(app.account, app.endpoint) for app in played.cluster.models} == {("", NAME), (played.number, NAME)}
    table = played.edge.table
    assert {(backend.account, len(backend.servers)) for backend in table.backends} == {("", 1), (played.number, 1)}
    ports = [server.port for backend in table.backends for server in backend.servers]
    assert len(set(ports)) == 2
    assert (table.tenants, table.own) == ((played.number,), played.settings.account)
    assert played.controller.has_route(NAME, played.number)
    assert not played.controller.has_route("none", played.number)


def test_one_goes_and_the_other_stays(played: Played) -> None:
    for store in played.both():
        store.create("Endpoint", NAME, SPEC.model_dump(mode="json"), "Creating")
    played.run(20)
    found = played.store.get("Endpoint", NAME)
    played.store.replace(found, found.document, "Deleting")
    played.run(5)
    assert not played.store.find("Endpoint")
    assert [app.account for app in played.cluster.models] == [played.number]
    assert played.other.get("Endpoint", NAME).status == "InService"
    assert [backend.account for backend in played.edge.table.backends] == [played.number]


def test_a_closed_account_s_endpoints_stop_until_it_is_open_again(played: Played) -> None:
    for store in played.both():
        store.create("Endpoint", NAME, SPEC.model_dump(mode="json"), "Creating")
    played.run(20)
    played.accounts.close(played.number)
    played.run(3)
    assert [app.account for app in played.cluster.models] == [""]
    assert [backend.account for backend in played.edge.table.backends] == [""]
    assert played.edge.table.tenants == ()
    played.accounts.reopen(played.number)
    played.run(10)
    assert {app.account for app in played.cluster.models} == {"", played.number}
    assert all(backend.servers for backend in played.edge.table.backends)


def test_where_nobody_is_asked_no_tenant_is_told_apart(played: Played) -> None:
    played.settings = played.settings.model_copy(update={"auth": "open"})
    played.controller = played.born()
    played.other.create("Endpoint", NAME, SPEC.model_dump(mode="json"), "Creating")
    played.run(10)
    assert played.edge.table.tenants == ()
    assert [backend.place for backend in played.edge.table.backends] == [f"{played.number}:{NAME}"]


@pytest.mark.parametrize("name", [AppName("e", "v", "r"), AppName("e", "v", "r", "210987654321")])
def test_an_application_s_name_says_whose_it_is(name: AppName) -> None:
    assert AppName.parse(str(name)) == name
    assert AppName.parse("hearth:e:v") is AppName.parse("other:e:v:r") is None
    assert str(AppName("e", "v", "r")) == "hearth:e:v:r"


def test_replicas_of_another_account_have_folders_of_their_own(played: Played) -> None:
    own = played.store.create("Endpoint", "a", SPEC.model_dump(mode="json"), "Creating")
    other = played.other.create("Endpoint", "a", SPEC.model_dump(mode="json"), "Creating")
    home = replace(played.home, objects_url="https://s3.example")
    assert home_of(home, own, played.settings.account) == replace(home, region="us-east-1")
    found = home_of(home, other, played.settings.account)
    assert (found.account, found.tenant, found.objects_url) == (played.number, played.number, None)
    part = f"accounts/{played.number}"
    assert (found.cache_dir, found.objects_dir) == (f"cache/{part}", f"objects/{part}")
    assert Path(found.log_dir).is_dir()


async def test_measurements_and_alarms_are_the_account_s(played: Played) -> None:
    beat = Beat("r", NAME, "AllTraffic", "rev", "127.0.0.1", 1, 1, "ready", account=played.number)
    now = int(time.time()) // 60 * 60 - 120
    values = Distribution()
    values.add(5.0)
    points = measured(beat, [{"start": now, "metrics": {"Invocations": values.to_wire()}}])
    assert await Meter(played.store).keep(played.number, NAME, points, 1)
    where = ("AWS/SageMaker", "Invocations", {"EndpointName": NAME, "VariantName": "AllTraffic"})
    kept = [MetricStore(store.engine, store.account, "us-east-1").one(*where) for store in played.both()]
    assert (kept[0], kept[1] is not None) == (None, True)
    rule: dict[str, Any] = {
        "AlarmName": "busy", "Namespace": where[0], "MetricName": where[1], "Statistic": "Sum", "Period": 60,
        "Dimensions": [{"Name": name, "Value": value} for name, value in where[2].items()], "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold", "Threshold": 1.0,
    }  # fmt: skip
    for store in played.both():
        store.create(alarms.KIND, "busy", rule, "INSUFFICIENT_DATA", arn=f"arn:{store.account}:busy")
    Alarms(played.store, lambda: now + 75.0).look()
    assert [store.get(alarms.KIND, "busy").status for store in played.both()] == ["INSUFFICIENT_DATA", "ALARM"]


def test_a_key_s_last_use_is_noted_where_it_is_kept(played: Played) -> None:
    key = access_key_id("AKIA", played.number)
    with Directory(played.other).change() as unit:
        unit.add_key(ACCESS_KEY, key, played.number, {"Sealed": ""})
    note_used(played.store, {key: (1.0, "s3", "us-east-1")})
    assert played.other.within(GLOBAL).get(ACCESS_KEY, key).observation == {
        "At": 1.0, "Service": "s3", "Region": "us-east-1",
    }  # fmt: skip


async def test_events_of_every_account_are_told_once(played: Played) -> None:
    told: list[tuple[str, str]] = []

    class Subscriber:
        name = "recording"

        async def handle(self, event: Any) -> None:
            told.append((event.account, event.name))

    feed, subscriber = Feed(played.store, []), Subscriber()
    await feed._step(subscriber)
    number = played.accounts.unused()
    played.accounts.create(number, "late")
    late = played.store.of(number)
    for store in (*played.both(), late):
        store.create("Model", "m", {"ModelName": "m"}, "InService")
    await feed._step(subscriber)
    await feed._step(subscriber)
    assert sorted(told) == sorted((store.account, "m") for store in (*played.both(), late))
