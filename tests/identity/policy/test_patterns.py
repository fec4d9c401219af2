"""Wildcards: against a plain reference, and within linear time."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.identity.policy.patterns import Arn, Text, Variable, tokens

PATTERNS = st.text(alphabet="ab?*:", max_size=14)
VALUES = st.text(alphabet="ab:?", max_size=14)


def reference(pattern: str, value: str) -> bool:
    """The definition, character by character."""

    @cache
    def match(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(value)
        if pattern[i] == "*":
            return match(i + 1, j) or (j < len(value) and match(i, j + 1))
        return j < len(value) and pattern[i] in ("?", value[j]) and match(i + 1, j + 1)

    return match(0, 0)


def reference_arn(pattern: str, value: str) -> bool:
    """Segment by segment; the last of the pattern takes what is left."""
    parts = pattern.split(":", 5)
    given = value.split(":", len(parts) - 1)
    return len(parts) == len(given) and all(map(reference, parts, given))


@settings(max_examples=500, deadline=None)
@given(PATTERNS, VALUES)
def test_matches_as_the_reference_does(pattern: str, value: str) -> None:
    assert Text(pattern, variables=False).matches(value, {}) == reference(pattern, value)


@settings(max_examples=500, deadline=None)
@given(PATTERNS, VALUES)
def test_arns_match_as_the_reference_does(pattern: str, value: str) -> None:
    assert Arn(pattern, variables=False).matches(value, {}) == reference_arn(pattern, value)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab*?${}'", max_size=8), st.text(alphabet="ab*?", max_size=6), VALUES)
def test_a_variable_is_literal_whatever_its_value(before: str, value: str, other: str) -> None:
    pattern = Arn("x:${k}", variables=True)

    assert pattern.matches(f"x:{value}", {"k": (value,)})
    assert pattern.matches(f"x:{other}", {"k": (value,)}) == (other == value)
    tokens(before, variables=True)


@pytest.mark.parametrize(
    ("text", "key", "default"),
    [
        ("${aws:UserName}", "aws:username", None),
        ("${ aws:PrincipalTag/Team , 'every one' }", "aws:principaltag/team", "every one"),
        ("${k, 'it''s'}", "k", "it's"),
        ("${k, '}'}", "k", "}"),
        ("${k, unquoted}", "k", None),
    ],
)
def test_variables_are_read(text: str, key: str, default: str | None) -> None:
    [found] = tokens(text, variables=True)

    assert isinstance(found, Variable)
    assert (found.key, found.default) == (key, default)


def test_a_variable_of_several_values_has_none() -> None:
    assert not Text("${k}", variables=True).matches("a", {"k": ("a", "b")})
    assert Text("${k, 'c'}", variables=True).matches("c", {"k": ("a", "b")})


def test_an_unclosed_variable_is_text() -> None:
    assert Text("${k", variables=True).matches("${k", {})


@pytest.mark.parametrize("piece", ["*a", "*?a", "*a?", "*aa?aa", "*ab?", "?*a"])
@pytest.mark.timeout(60)
def test_catastrophic_patterns_end(piece: str) -> None:
    """Each would take a backtracking matcher longer than the universe has."""
    assert not Arn(piece * 500 + "b", variables=False).matches("a" * 40_000, {})
