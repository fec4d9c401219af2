"""When a scheduled action is due: `at(...)`, `rate(...)` and `cron(...)` as AWS writes them. Pure.

https://docs.aws.amazon.com/autoscaling/application/userguide/scheduled-scaling-using-cron-expressions.html
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()
UNITS = {"minute": 60, "hour": 3600, "day": 86400}
FIELDS = "[Minutes] [Hours] [Day_of_Month] [Month] [Day_of_Week] [Year]"
LOOKED_BACK = timedelta(days=366)
"""How far back a schedule that nobody looked at meanwhile is searched."""
MINUTE = timedelta(minutes=1)

_CALL = re.compile(r"(at|rate|cron)\((.*)\)")


class Wrong(ValueError):
    """The expression is none; says where."""


@dataclass(frozen=True, slots=True)
class Once:
    moment: datetime

    def latest(self, after: datetime, now: datetime) -> datetime | None:
        return self.moment if after < self.moment <= now else None


@dataclass(frozen=True, slots=True)
class Every:
    """Each `period` counted from `anchor`; the first is the anchor itself only when it was asked for."""

    period: timedelta
    anchor: datetime
    at_anchor: bool

    def latest(self, after: datetime, now: datetime) -> datetime | None:
        passed = (now - self.anchor) // self.period
        moment = self.anchor + passed * self.period
        return moment if passed >= (0 if self.at_anchor else 1) and moment > after else None


@dataclass(frozen=True, slots=True)
class Cron:
    """Whole minutes of one time zone. A time that the clock shows twice counts once, one that it skips never."""

    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    years: frozenset[int]
    is_day: Callable[[date], bool]
    zone: ZoneInfo

    def latest(self, after: datetime, now: datetime) -> datetime | None:
        moment = now.astimezone(UTC).replace(second=0, microsecond=0)
        after = max(after, now - LOOKED_BACK)
        while moment > after:
            local = moment.astimezone(self.zone)
            if not self._has_day(local.date()):
                back = timedelta(hours=local.hour, minutes=local.minute) - timedelta(hours=3)
                moment -= max(back, MINUTE)  # to the day's first hours, which a clock that changes may move
                continue
            if local.minute in self.minutes and local.hour in self.hours and local.fold == 0:
                return moment
            moment -= MINUTE
        return None

    def _has_day(self, day: date) -> bool:
        return day.month in self.months and day.year in self.years and self.is_day(day)


Schedule = Once | Every | Cron


def parse(expression: str, zone: str | None, created: datetime, start: datetime | None) -> Schedule:
    """Raises Wrong. `rate` counts from `start`, or from when the action was `created`."""
    found = _CALL.fullmatch(expression.strip())
    if found is None:
        raise Wrong(f"{expression!r} is none of at(yyyy-mm-ddThh:mm:ss), rate(value unit) and cron(fields)")
    kind, inner = found.groups()
    place = time_zone(zone)
    if kind == "rate":
        return Every(_period(inner), start or created, start is not None)
    return _once(inner, place) if kind == "at" else _cron(inner, place)


def time_zone(name: str | None) -> ZoneInfo:
    """Raises Wrong for one that the IANA data base does not have."""
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, LookupError):
        raise Wrong(f"{name!r} is no IANA time zone") from None


def _once(text: str, zone: ZoneInfo) -> Once:
    try:
        return Once(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=zone).astimezone(UTC))
    except (ValueError, OverflowError):
        raise Wrong(f"at({text}): the time must be yyyy-mm-ddThh:mm:ss") from None


def _period(text: str) -> timedelta:
    found = re.fullmatch(r"([1-9][0-9]{0,8}) (minute|hour|day)(s?)", text)
    if found is None or (found[1] == "1") == bool(found[3]):
        raise Wrong(f"rate({text}): needs a positive integer and minute, minutes, hour, hours, day or days")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def _cron(text: str, zone: ZoneInfo) -> Cron:
    parts = text.split()
    if len(parts) != 6:
        raise Wrong(f"cron({text}): needs the six fields {FIELDS}")
    minutes, hours, month_days, months, week_days, years = (part.upper() for part in parts)
    if (month_days == "?") == (week_days == "?"):
        raise Wrong(f"cron({text}): one of Day_of_Month and Day_of_Week, and only one, must be ?")
    is_day = _of_week(week_days) if month_days == "?" else _of_month(month_days)
    return Cron(
        _values(minutes, 0, 59, "Minutes"), _values(hours, 0, 23, "Hours"),
        _values(months, 1, 12, "Month", MONTHS), _values(years, 1970, 2199, "Year"), is_day, zone,
    )  # fmt: skip


def _of_month(field: str) -> Callable[[date], bool]:
    if field == "L":
        return lambda day: day.day == _length(day)
    if field == "LW":
        return lambda day: day.day == _nearest_weekday(day, _length(day))
    if found := re.fullmatch(r"([0-9]{1,2})W", field):
        (number,) = _values(found[1], 1, 31, "Day_of_Month")
        return lambda day: number <= _length(day) and day.day == _nearest_weekday(day, number)
    numbers = _values(field, 1, 31, "Day_of_Month")
    return lambda day: day.day in numbers


def _of_week(field: str) -> Callable[[date], bool]:
    """1 is Sunday."""
    if field == "L":
        return lambda day: _week_day(day) == 7
    if found := re.fullmatch(r"([0-9A-Z]+)L", field):
        (last,) = _values(found[1], 1, 7, "Day_of_Week", DAYS)
        return lambda day: _week_day(day) == last and day.day + 7 > _length(day)
    if found := re.fullmatch(r"([0-9A-Z]+)#([1-5])", field):
        (named,) = _values(found[1], 1, 7, "Day_of_Week", DAYS)
        which = int(found[2])
        return lambda day: _week_day(day) == named and (day.day + 6) // 7 == which
    numbers = _values(field, 1, 7, "Day_of_Week", DAYS)
    return lambda day: _week_day(day) in numbers


def _values(field: str, low: int, high: int, name: str, words: Sequence[str] = ()) -> frozenset[int]:
    """Of lists, ranges and steps: `1,5-9,*/15,10/2`."""
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and not re.fullmatch(r"[1-9][0-9]{0,3}", step):
            raise Wrong(f"cron: {name} has a bad step in {part!r}")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, low, high, name, words)
            end = _number(last, low, high, name, words) if dash else high if slash else begin
        if begin > end:
            raise Wrong(f"cron: {name} has a range that goes down in {part!r}")
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, low: int, high: int, name: str, words: Sequence[str]) -> int:
    if text in words:
        return words.index(text) + low
    if not re.fullmatch(r"[0-9]{1,4}", text) or not low <= int(text) <= high:
        raise Wrong(f"cron: {name} must be from {low} to {high}, not {text!r}")
    return int(text)


def _week_day(day: date) -> int:
    return day.isoweekday() % 7 + 1


def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, number: int) -> int:
    """The working day of the same month that is nearest to its day `number`."""
    week_day = day.replace(day=number).isoweekday()
    if week_day == 6:
        return number - 1 if number > 1 else number + 2
    if week_day == 7:
        return number + 1 if number < _length(day) else number - 2
    return number
