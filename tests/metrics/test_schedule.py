"""When scheduled actions are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.metrics.schedule import Cron, Wrong, parse

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def latest(expression: str, after: str, now: str, zone: str | None = None) -> str | None:
    found = parse(expression, zone, CREATED, None).latest(moment(after), moment(now))
    return None if found is None else found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


@pytest.mark.parametrize(
    ("expression", "after", "now", "expected"),
    [
        ("at(2026-03-01T10:00:00)", "2026-03-01T09:59", "2026-03-01T10:00", "2026-03-01T10:00"),
        ("at(2026-03-01T10:00:00)", "2026-03-01T10:00", "2026-03-01T11:00", None),
        ("rate(1 hour)", "2026-01-01T00:00", "2026-01-01T00:59", None),
        ("rate(1 hour)", "2026-01-01T00:00", "2026-01-01T03:10", "2026-01-01T03:00"),
        ("rate(5 minutes)", "2026-01-01T00:05", "2026-01-01T00:09", None),
        ("cron(0 9 * * ? *)", "2026-02-01T08:59", "2026-02-01T09:00", "2026-02-01T09:00"),
        ("cron(0 9 * * ? *)", "2026-02-01T09:00", "2026-02-02T08:00", None),
        ("cron(0 9 * * ? *)", "2026-02-01T08:00", "2026-02-05T08:00", "2026-02-04T09:00"),
        ("cron(0/15 * * * ? *)", "2026-02-01T08:01", "2026-02-01T08:44", "2026-02-01T08:30"),
        ("cron(0 9 ? * MON-FRI *)", "2026-02-06T10:00", "2026-02-08T23:00", None),  # Friday to Sunday
        ("cron(0 9 ? * 2 *)", "2026-02-06T10:00", "2026-02-09T09:00", "2026-02-09T09:00"),
        ("cron(30 6 L * ? *)", "2026-02-01T00:00", "2026-03-15T00:00", "2026-02-28T06:30"),
        ("cron(30 6 LW * ? *)", "2026-02-01T00:00", "2026-03-15T00:00", "2026-02-27T06:30"),  # the 28th is a Saturday
        ("cron(30 6 1W * ? *)", "2026-02-01T00:00", "2026-02-20T00:00", "2026-02-02T06:30"),  # the 1st is a Sunday
        ("cron(0 0 ? * FRI#2 *)", "2026-02-01T00:00", "2026-02-28T00:00", "2026-02-13T00:00"),
        ("cron(0 0 ? * 6L *)", "2026-02-01T00:00", "2026-03-01T00:00", "2026-02-27T00:00"),
        ("cron(0 0 1 JAN ? 2026)", "2025-12-01T00:00", "2026-06-01T00:00", "2026-01-01T00:00"),
        ("cron(0 0 1 JAN ? 2027)", "2025-12-01T00:00", "2026-06-01T00:00", None),
    ],
)  # fmt: skip
def test_the_newest_time_that_has_come(expression: str, after: str, now: str, expected: str | None) -> None:
    assert latest(expression, after, now) == expected


def test_zones_and_their_summer_times() -> None:
    berlin = "Europe/Berlin"
    assert latest("at(2026-07-01T10:00:00)", "2026-07-01T00:00", "2026-07-01T09:00", berlin) == "2026-07-01T08:00"
    assert latest("cron(0 9 * * ? *)", "2026-01-05T00:00", "2026-01-05T12:00", berlin) == "2026-01-05T08:00"
    assert latest("cron(0 9 * * ? *)", "2026-07-05T00:00", "2026-07-05T12:00", berlin) == "2026-07-05T07:00"
    # 02:30 is skipped on 29 March and comes twice on 25 October
    assert latest("cron(30 2 * * ? *)", "2026-03-28T12:00", "2026-03-29T12:00", berlin) is None
    assert latest("cron(30 2 * * ? *)", "2026-10-24T12:00", "2026-10-25T12:00", berlin) == "2026-10-25T00:30"
    assert latest("cron(30 2 * * ? *)", "2026-10-25T00:30", "2026-10-25T12:00", berlin) is None


def test_a_rate_from_a_start_begins_there() -> None:
    start = CREATED + timedelta(hours=5)
    every = parse("rate(2 hours)", None, CREATED, start)
    assert every.latest(CREATED, start - timedelta(seconds=1)) is None
    assert every.latest(CREATED, start) == start
    assert every.latest(start, start + timedelta(hours=3)) == start + timedelta(hours=2)


@pytest.mark.parametrize(
    "expression",
    [
        "", "soon", "at(tomorrow)", "at(2026-13-01T00:00:00)", "rate(0 minutes)", "rate(1 minutes)", "rate(2 minute)",
        "rate(5 weeks)", "cron(* * * * *)", "cron(* * * * * *)", "cron(* * ? * ? *)", "cron(60 * * * ? *)",
        "cron(0 24 * * ? *)", "cron(0 0 32 * ? *)", "cron(0 0 * FOO ? *)", "cron(5-1 * * * ? *)", "cron(*/0 * * * ? *)",
        "cron(0 0 ? * 8 *)", "cron(0 0 ? * MON#6 *)", "cron(0 0 * * ? 1969)",
    ],
)  # fmt: skip
def test_what_is_no_expression(expression: str) -> None:
    with pytest.raises(Wrong):
        parse(expression, None, CREATED, None)


def test_an_unknown_zone() -> None:
    for name in ("Mars/Base", "../etc", "", "\0"):
        if name:
            with pytest.raises(Wrong, match="time zone"):
                parse("cron(0 0 * * ? *)", name, CREATED, None)


MINUTES = st.integers(0, 60 * 24 * 40).map(lambda n: CREATED + timedelta(minutes=n))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
CRONS = st.sampled_from(
    ["cron(0 9 * * ? *)", "cron(*/7 3 ? * MON *)", "cron(15 22 L * ? *)", "cron(0 0 1,15 * ? *)", "cron(5 1 ? * 3#2 *)"]
)


@given(CRONS, ZONES, MINUTES, st.integers(1, 60 * 24 * 9))
def test_skipping_days_misses_nothing(expression: str, zone: str, after: datetime, minutes: int) -> None:
    cron = parse(expression, zone, CREATED, None)
    assert isinstance(cron, Cron)
    now = after + timedelta(minutes=minutes)
    wanted = [
        each
        for n in range(1, minutes + 1)
        for each in (after + timedelta(minutes=n),)
        for local in (each.astimezone(cron.zone),)
        if local.fold == 0 and local.minute in cron.minutes and local.hour in cron.hours and cron._has_day(local.date())
    ]
    assert cron.latest(after, now) == (wanted[-1] if wanted else None)


@given(CRONS, ZONES, MINUTES, st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_a_time_comes_once_however_often_one_looks(
    expression: str, zone: str, begin: datetime, pauses: list[int]
) -> None:
    cron = parse(expression, zone, CREATED, None)
    cursor, now, seen = begin, begin, []
    for pause in pauses:
        now += timedelta(minutes=pause)
        if (found := cron.latest(cursor, now)) is not None:
            seen.append(found)
        cursor = now
    assert len(set(seen)) == len(seen)
