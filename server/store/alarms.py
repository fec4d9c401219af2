"""Alarms as rows: the rule is the document, the state is the status, the rest is the observation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from server.store.store import Resource, Store

KIND = "MetricAlarm"
KEPT = 100
"""Items of an alarm's history."""


def history(observation: Mapping[str, Any], kind: str, summary: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """`observation` with one more item; `kind` is CloudWatch's HistoryItemType."""
    now = time.time()
    item = {
        "HistoryItemType": kind, "Timestamp": now, "HistorySummary": summary[:255],
        "HistoryData": json.dumps({"version": "1.0", **data})[:4095],
    }  # fmt: skip
    made = {**observation, "History": [*observation.get("History", ()), item][-KEPT:]}
    return {**made, "Configured": now} if kind == "ConfigurationUpdate" else made


def with_history(alarm: Resource, kind: str, summary: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return history(alarm.observation or {}, kind, summary, data)


def last_rung(alarm: Resource, now: float) -> float | None:
    """When `alarm` was in ALARM last, in seconds since 1970: `now`, or when that ended; None: never as far as known."""
    if alarm.status == "ALARM":
        return now
    ends = [
        item["Timestamp"]
        for item in (alarm.observation or {}).get("History", ())
        if item["HistoryItemType"] == "StateUpdate"
        and json.loads(item["HistoryData"])["oldState"]["stateValue"] == "ALARM"
    ]
    return max(ends, default=None)


def changed(store: Store, alarm: Resource, state: str, why: str, data: str | None = None) -> bool:
    """Notes another state; False when the alarm itself was changed or went meanwhile."""
    summary = f"Alarm updated from {alarm.status} to {state}"
    seen = with_history(
        alarm, "StateUpdate", summary,
        {"oldState": {"stateValue": alarm.status}, "newState": {"stateValue": state, "stateReason": why}},
    )  # fmt: skip
    now = time.time()
    with store.transaction() as together:
        if not together.report(alarm, state):
            return False
        together.observe(
            alarm, {**seen, "StateReason": why, "StateReasonData": data, "StateUpdatedTimestamp": now}
        )
    return True
