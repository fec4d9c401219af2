"""When an alarm is on, by CloudWatch's own table of missing data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.metrics.alarm import COMPARE, LATE_S, Rule, evaluate, reason

NAMES = {"A": "ALARM", "O": "OK", "I": "INSUFFICIENT_DATA", "=": None}
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")


def rule(needed: int = 3, periods: int = 3, missing: str = "missing", comparison: str = "GreaterThanThreshold") -> Rule:
    return Rule("Sum", 60, periods, needed, 1.0, comparison, missing)  # type: ignore[arg-type]


def points(picture: str) -> list[float | None]:
    return [{"0": 0.0, "X": 2.0, "-": None}[each] for each in picture.split()]


@pytest.mark.parametrize(
    ("needed", "picture", "wanted"),
    [
        (3, "0 - X - X", "OOOO"),
        (3, "0 - - - -", "OOOO"),
        (3, "- - - - -", "I=AO"),
        (3, "0 X X - X", "AAAA"),
        (3, "- - X - -", "A=AO"),
        (2, "0 - X - X", "AAAA"),
        (2, "0 0 X 0 X", "AAAA"),
        (2, "0 - X - -", "OOAO"),
        (2, "- - - - 0", "OOAO"),
        (2, "- - - X -", "A=AO"),
    ],
)
def test_the_documented_table(needed: int, picture: str, wanted: str) -> None:
    found = [evaluate(rule(needed, missing=treatment), points(picture)) for treatment in TREATMENTS]
    assert found == [NAMES[letter] for letter in wanted]


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.sampled_from(sorted(COMPARE)), st.integers(1, 3))
def test_with_all_points_there_it_counts(values: list[float], comparison: str, needed: int) -> None:
    beyond = sum(COMPARE[comparison](value, 1.0) for value in values)
    for treatment in TREATMENTS:
        state = evaluate(rule(needed, missing=treatment, comparison=comparison), values)
        assert state == ("ALARM" if beyond >= needed else "OK")


def test_a_period_is_looked_at_once_its_points_can_be_there() -> None:
    window = rule().window(600.0 + LATE_S)
    assert (window.start, window.stop, len(window)) == (300, 600, 5)
    assert rule().window(600.0 + LATE_S - 1).stop == 540


def test_the_reason_says_what_was_seen() -> None:
    assert reason(rule(2), points("0 X X"), "ALARM").startswith(
        "Threshold Crossed: 2 out of the last 3 datapoints [2, 2, 0] was greater than the threshold (1) (minimum 2"
    )
    assert "1 missing as breaching" in reason(rule(missing="breaching"), points("- X X"), "ALARM")
    assert reason(rule(), [None] * 3, "INSUFFICIENT_DATA") == "Insufficient Data: 3 datapoints were unknown."
