"""Dates in conditions that are none."""

from __future__ import annotations

import pytest

from server.objects.reading import _timestamp


@pytest.mark.parametrize("text", ["999999999999999999999999999999", "x", "", "-1e400"])
def test_what_is_no_date_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a date"):
        _timestamp(text)
