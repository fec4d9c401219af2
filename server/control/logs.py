"""CloudWatch Logs, to read what replicas print: groups, streams, events, filters."""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from server.control.log_files import Event, LogFiles, Stream, backward, forward
from server.control.log_pattern import matcher
from server.control.operations import Answer, Context, Request
from server.control.service import Service
from server.errors import Refusal

LOGS = Service("logs")

MAX_BYTES = 1024 * 1024
"""Of messages in one answer."""
EVENT_BYTES = 26
"""What CloudWatch counts for an event beside its message."""
MAX_SCANNED_BYTES = 32 * 1024 * 1024
"""A filter looks at no more for one answer; the rest comes with the next token."""

_TOKEN = re.compile(r"([fb])/(\d{1,18})")


@LOGS.operation
def describe_log_groups(context: Context, request: Request) -> Answer:
    names = LogFiles(context.logs).groups()
    prefix, part = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "").lower()
    if prefix and part:
        raise _invalid("logGroupNamePrefix and logGroupNamePattern exclude each other.", "logGroupNamePattern")
    wanted = [name for name in names if name.startswith(prefix) and part in name.lower()]
    page, token = _page(wanted, request)
    return {"logGroups": [_group(context, name) for name in page], "nextToken": token}


def _group(context: Context, name: str) -> dict[str, Any]:
    streams = LogFiles(context.logs).streams(name) or []
    arn = f"arn:aws:logs:{context.region}:{context.account}:log-group:{name}"
    return {
        "logGroupName": name, "arn": f"{arn}:*", "logGroupArn": arn, "logGroupClass": "STANDARD",
        "metricFilterCount": 0,
        "creationTime": min((stream.first for stream in streams), default=None),
        "storedBytes": sum(stream.size for stream in streams),
    }  # fmt: skip


@LOGS.operation
def describe_log_streams(context: Context, request: Request) -> Answer:
    group, streams = _streams(context, request)
    by_time = request.get("orderBy") == "LastEventTime"
    prefix = request.get("logStreamNamePrefix", "")
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.", "orderBy")
    wanted = sorted(
        (stream for stream in streams if stream.name.startswith(prefix)),
        key=lambda stream: (stream.last if by_time else 0, stream.name),
        reverse=request.get("descending", False),
    )
    page, token = _page(wanted, request)
    arn = f"arn:aws:logs:{context.region}:{context.account}:log-group:{group}:log-stream"
    return {
        "logStreams": [
            {
                "logStreamName": stream.name, "arn": f"{arn}:{stream.name}", "creationTime": stream.first,
                "firstEventTimestamp": stream.first, "lastEventTimestamp": stream.last,
                "lastIngestionTime": stream.last, "storedBytes": stream.size,
            }
            for stream in page
        ],
        "nextToken": token,
    }  # fmt: skip


@LOGS.operation
def get_log_events(context: Context, request: Request) -> Answer:
    """A token is a direction and a place in the stream; the same one comes back where there is no more."""
    group, streams = _streams(context, request)
    name = request.get("logStreamName", "")
    stream = next((each for each in streams if each.name == name), None)
    if stream is None:
        raise Refusal("ResourceNotFoundException", f"The specified log stream does not exist: {group} {name}")
    within = _Window(request)
    limit = request.get("limit", 10_000)
    ahead, place = _direction(request, stream)
    if ahead:
        events, end = _taken(filter(within.holds, forward(stream, place)), limit, place)
        begin = events[0].begin if events else place
    else:
        found = [event for event in backward(stream, place, MAX_BYTES) if within.holds(event)][-limit:]
        events, begin, end = found, found[0].begin if found else place, found[-1].end if found else place
    return {
        "events": [{**_plain(event), "ingestionTime": event.timestamp} for event in events],
        "nextForwardToken": f"f/{end}",
        "nextBackwardToken": f"b/{begin}",
    }


def _direction(request: Request, stream: Stream) -> tuple[bool, int]:
    token = request.get("nextToken")
    if token is None:
        return (True, 0) if request.get("startFromHead") else (False, stream.size)
    found = _TOKEN.fullmatch(token)
    if found is None or int(found[2]) > stream.size:
        raise _invalid("The specified nextToken is invalid.", "nextToken")
    return found[1] == "f", int(found[2])


def _taken(events: Iterator[Event], limit: int, place: int) -> tuple[list[Event], int]:
    """The first events, as far as an answer holds them, and where they end."""
    found: list[Event] = []
    size = 0
    for event in events:
        size += len(event.message) + EVENT_BYTES
        if len(found) == limit or size > MAX_BYTES:
            break
        found.append(event)
    return found, found[-1].end if found else place


@LOGS.operation
def filter_log_events(context: Context, request: Request) -> Answer:
    """Events of all streams in order of time. A token is the place in each stream that is not at its end."""
    _, streams = _streams(context, request)
    names, prefix = request.get("logStreamNames"), request.get("logStreamNamePrefix", "")
    if names is not None and prefix:
        raise _invalid("logStreamNames and logStreamNamePrefix exclude each other.", "logStreamNamePrefix")
    wanted = [s for s in streams if (names is None or s.name in names) and s.name.startswith(prefix)]
    places = _places(request.get("nextToken"), wanted)
    matches, within, limit = matcher(request.get("filterPattern", "")), _Window(request), request.get("limit", 10_000)
    found: list[Event] = []
    size = scanned = 0
    more = False
    sources = (forward(stream, places[stream.name]) for stream in wanted if stream.name in places)
    for event in heapq.merge(*sources, key=lambda event: event.timestamp):
        scanned += event.end - event.begin
        hit = within.holds(event) and matches(event.message)
        size += len(event.message) + EVENT_BYTES if hit else 0
        if (hit and (len(found) == limit or size > MAX_BYTES)) or scanned > MAX_SCANNED_BYTES:
            more = True
            break
        places[event.stream] = event.end
        if hit:
            found.append(event)
    return {
        "events": [{**_plain(event), "ingestionTime": event.timestamp, "logStreamName": event.stream,
                    "eventId": _event_id(event)} for event in found],
        "searchedLogStreams": [],
        "nextToken": _token(places) if more else None,
    }  # fmt: skip


def _places(token: str | None, streams: list[Stream]) -> dict[str, int]:
    """Where to go on in each stream."""
    if token is None:
        return {stream.name: 0 for stream in streams}
    try:
        found = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
        return {stream.name: max(0, min(int(found[stream.name]), stream.size)) for stream in streams
                if stream.name in found}  # fmt: skip
    except (ValueError, TypeError, KeyError):
        raise _invalid("The specified nextToken is invalid.", "nextToken") from None


def _token(places: Mapping[str, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(places).encode()).decode()


def _streams(context: Context, request: Request) -> tuple[str, list[Stream]]:
    """The group that a request names, and its streams."""
    given = request.get("logGroupName") or request.get("logGroupIdentifier", "").rpartition(":log-group:")[2]
    if not given:
        raise _invalid("One of logGroupName and logGroupIdentifier must be given.", "logGroupName")
    streams = LogFiles(context.logs).streams(given)
    if streams is None:
        raise Refusal("ResourceNotFoundException", f"The specified log group does not exist: {given}")
    return given, streams


class _Window:
    """`startTime` to before `endTime`, in milliseconds since 1970."""

    def __init__(self, request: Request) -> None:
        self._start = request.get("startTime", 0)
        self._end = request.get("endTime", 2**63)

    def holds(self, event: Event) -> bool:
        return bool(self._start <= event.timestamp < self._end)


def _page(items: list[Any], request: Request) -> tuple[list[Any], str | None]:
    token = request.get("nextToken", "0")
    if not (token.isascii() and token.isdigit() and len(token) < 10):
        raise _invalid("The specified nextToken is invalid.", "nextToken")
    begin, end = int(token), int(token) + request.get("limit", 50)
    return items[begin:end], str(end) if end < len(items) else None


def _plain(event: Event) -> dict[str, Any]:
    return {"timestamp": event.timestamp, "message": event.message}


def _event_id(event: Event) -> str:
    """CloudWatch's ids have 56 digits."""
    digest = hashlib.sha256(f"{event.stream}\0{event.begin}".encode()).digest()
    return str(int.from_bytes(digest[:23], "big")).zfill(56)


def _invalid(message: str, field: str) -> Refusal:
    return Refusal("InvalidParameterException", message, field=field)
