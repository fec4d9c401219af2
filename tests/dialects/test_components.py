"""Which component or adapter a request is for, and what who names none is told."""

from __future__ import annotations

import pytest

from server.dialects.components import chosen
from server.dialects.identity import Identity
from server.errors import BadRequest, NotReady

BASE = Identity("ep", "AllTraffic", "r", component="base", adapters=("one", "two"))
PLAIN = Identity("ep", "AllTraffic", "r")


@pytest.mark.parametrize(
    ("header", "named", "whom"),
    [
        ("base", None, "base"),
        ("base", "base", "base"),
        ("base", "ep", "base"),
        ("base", "one", "one"),
        ("one", None, "one"),
        ("one", "ep", "one"),
        ("one", "one", "one"),
        ("", "two", "two"),
        ("", "base", "base"),
    ],
)
def test_whom_a_request_is_for(header: str, named: str | None, whom: str) -> None:
    assert chosen(BASE, header, named) == whom


@pytest.mark.parametrize(
    ("header", "named", "words"),
    [
        ("", None, "header is required"),
        ("", "ep", "header is required"),
        ("one", "two", "model is two, but the request is for inference component one"),
        ("base", "other", "model must be ep or base or one or two"),
        ("base", 5, "model must be"),
    ],
)
def test_what_names_nobody_is_refused(header: str, named: object, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        chosen(BASE, header, named)


def test_an_adapter_that_is_not_here_yet_may_come() -> None:
    with pytest.raises(NotReady, match="three is not loaded"):
        chosen(BASE, "three")


def test_an_endpoint_with_a_model_has_no_components() -> None:
    assert chosen(PLAIN, "", None) == chosen(PLAIN, "", "ep") == "ep"
    with pytest.raises(BadRequest, match="not allowed for endpoint ep"):
        chosen(PLAIN, "base")
