import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dialects.documents import deeper_than, parse_object
from server.errors import BadRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab[]{}"\\,:\n'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='[]{}"\\a'), inner, max_size=4),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 8))
def test_depth_is_counted_without_a_parser(value: Any, bound: int) -> None:
    assert deeper_than(json.dumps(value).encode(), bound) == (depth(value) > bound)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ud8a1 ', max_size=100).map(str.encode))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        outcome: object = parse_object(body, 16)
    except BadRequest as error:
        outcome = error
    assert isinstance(outcome, dict | BadRequest)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object, not an array"),
        (b"null", "must be a JSON object, not null"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": "b"}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_object(body, 16)


def test_surrogate_pairs_are_text() -> None:
    assert parse_object(b'{"a": "\\ud83d\\ude00"}', 16) == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 6_000_000,
        b'{"x": [' + b"[],[" * 1_000_000 + b"]" * 1_000_001 + b"}",
        b'{"x": "' + b"\\" * 6_000_000,
    ],
    ids=["arrays", "objects", "open", "stairs", "backslashes"],
)
def test_hostile_nesting_is_refused_in_bounded_time(body: bytes) -> None:
    begun = time.thread_time()
    with pytest.raises(BadRequest):
        parse_object(body, 64)
    assert time.thread_time() - begun < 20
