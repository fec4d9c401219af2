"""Replicas' logs through boto3's `logs` client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from server.control.log_pattern import matcher
from tests.control.conftest import client

GROUP = "/aws/sagemaker/Endpoints/my-endpoint"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()
ONE, TWO = "AllTraffic/0123456789ab", "two-parts/ba9876543210"


def line(second: int, event: str) -> str:
    return json.dumps({"event": event, "timestamp": datetime.fromtimestamp(NOON + second, UTC).isoformat()}) + "\n"


@pytest.fixture
def logs(address: str, log_dir: Path) -> Iterator[Any]:
    """The client, and two replicas that have run: one spoke at even seconds, one at odd ones."""
    folder = log_dir / "endpoints" / "my-endpoint"
    folder.mkdir(parents=True)
    for stream, first in ((ONE, 0), (TWO, 1)):
        text = "".join(line(second, f"e{second}") for second in range(first, 40, 2))
        (folder / f"{stream.replace('/', '-')}.log").write_text(text + "a traceback's line\nhalf a li")
    made = client(address, "logs")
    yield made
    made.close()
    shutil.rmtree(log_dir / "endpoints")


def seconds(events: list[dict[str, Any]]) -> list[float]:
    return [event["timestamp"] / 1e3 - NOON for event in events]


def test_groups_and_streams(logs: Any, log_dir: Path) -> None:
    (log_dir / "endpoints" / "other").mkdir()
    groups = logs.describe_log_groups()["logGroups"]
    assert [group["logGroupName"] for group in groups] == [GROUP, "/aws/sagemaker/Endpoints/other"]
    assert groups[0]["arn"] == f"arn:aws:logs:us-east-1:123456789012:log-group:{GROUP}:*"
    assert groups[0]["storedBytes"] > 1000
    assert len(logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]) == 1
    assert len(logs.describe_log_groups(logGroupNamePattern="OTHER")["logGroups"]) == 1
    paged = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1})
    assert [len(page["logGroups"]) for page in paged] == [1, 1]
    streams = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [ONE, TWO]
    assert streams[0]["firstEventTimestamp"] == NOON * 1e3
    last = logs.describe_log_streams(logGroupIdentifier=groups[0]["logGroupArn"], descending=True, limit=1)
    assert [stream["logStreamName"] for stream in last["logStreams"]] == [TWO]


def test_events_from_the_head_and_from_the_tail(logs: Any) -> None:
    ask = {"logGroupName": GROUP, "logStreamName": ONE, "limit": 15}
    head = logs.get_log_events(**ask, startFromHead=True)
    assert seconds(head["events"]) == [float(second) for second in range(0, 30, 2)]
    assert json.loads(head["events"][3]["message"])["event"] == "e6"
    rest = logs.get_log_events(**ask, nextToken=head["nextForwardToken"])
    assert seconds(rest["events"]) == [30, 32, 34, 36, 38, 38], "a line without a time has that of the line before it"
    assert rest["events"][-1]["message"] == "a traceback's line", "a line that is being written is not there yet"
    end = logs.get_log_events(**ask, nextToken=rest["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], rest["nextForwardToken"])
    tail = logs.get_log_events(**ask)
    assert seconds(tail["events"])[-2:] == [38, 38]
    before = logs.get_log_events(**ask, nextToken=tail["nextBackwardToken"])
    assert seconds(before["events"]) == [float(second) for second in range(0, 12, 2)]


def test_what_is_written_meanwhile_follows(logs: Any, log_dir: Path) -> None:
    token = logs.get_log_events(logGroupName=GROUP, logStreamName=ONE)["nextForwardToken"]
    with (log_dir / "endpoints" / "my-endpoint" / f"{ONE.replace('/', '-')}.log").open("a") as file:
        file.write("ne\n" + line(50, "late"))
    events = logs.get_log_events(logGroupName=GROUP, logStreamName=ONE, nextToken=token)["events"]
    assert events[0]["message"] == "half a line"
    assert seconds(events) == [38, 50]


def test_a_filter_goes_over_all_streams_in_order_of_time(logs: Any) -> None:
    found = list(logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 7}))
    assert [len(page["events"]) for page in found] == [7, 7, 7, 7, 7, 7]
    events = [event for page in found for event in page["events"]]
    assert seconds(events) == sorted(seconds(events))
    assert len({event["eventId"] for event in events}) == 42
    window = {"startTime": round(NOON * 1e3), "endTime": round((NOON + 35) * 1e3)}
    some = logs.filter_log_events(logGroupName=GROUP, filterPattern='?"e3" ?e7 -e31', **window)
    assert seconds(some["events"]) == [3, 7, 30, 32, 33, 34]
    assert logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="two")["events"][0]["logStreamName"] == TWO


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("get_log_events", {"logGroupName": GROUP, "logStreamName": "none"}, "ResourceNotFoundException"),
        *(("get_log_events", {"logGroupName": GROUP, "logStreamName": ONE, "nextToken": token},
           "InvalidParameterException") for token in ("x", "f/99999999")),
        ("get_log_events", {"logStreamName": ONE}, "InvalidParameterException"),
        ("describe_log_streams", {"logGroupName": "/aws/sagemaker/Endpoints/.."}, "ResourceNotFoundException"),
        ("describe_log_streams", {"logGroupName": "/aws/sagemaker/Endpoints/a/b"}, "ResourceNotFoundException"),
        ("describe_log_streams", {"logGroupName": "/other"}, "ResourceNotFoundException"),
        ("describe_log_streams", {"logGroupName": GROUP, "nextToken": "-1"}, "InvalidParameterException"),
        ("filter_log_events", {"logGroupName": GROUP, "filterPattern": "{ $.a = 1 }"}, "InvalidParameterException"),
        ("filter_log_events", {"logGroupName": GROUP, "filterPattern": 'a "b'}, "InvalidParameterException"),
        ("filter_log_events", {"logGroupName": GROUP, "nextToken": "!"}, "InvalidParameterException"),
        ("filter_log_events", {"logGroupName": GROUP, "logStreamNames": [ONE], "logStreamNamePrefix": "a"},
         "InvalidParameterException"),
        ("create_log_group", {"logGroupName": GROUP}, "UnknownOperationException"),
    ],
)  # fmt: skip
def test_bad_requests_are_named(logs: Any, operation: str, request_: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(logs, operation)(**request_)
    assert caught.value.response["Error"]["Code"] == code


@given(st.lists(st.text("ab\"\\ ", min_size=1, max_size=5), max_size=4), st.text("ab\"\\ ", max_size=12))
def test_a_pattern_of_quoted_terms_asks_for_each(terms: list[str], event: str) -> None:
    quoted = " ".join('"' + term.replace("\\", "\\\\").replace('"', '\\"') + '"' for term in terms)
    assert matcher(quoted)(event) == all(term in event for term in terms)
