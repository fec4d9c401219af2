"""The service model's patterns. They are Java's; `regex` knows nearly all of that dialect."""

from __future__ import annotations

import re
from functools import cache

import regex

TIME_S = 0.5
"""Bound on one match; a value that takes longer counts as not matching."""

_SURROGATES = re.compile(r"\\u(D[89AB][0-9A-F]{2})\\u(D[C-F][0-9A-F]{2})", re.IGNORECASE)
"""Java writes a character beyond U+FFFF as two."""


@cache
def compiled(java: str) -> regex.Pattern[str]:
    """The pattern, ready to match whole values.

    Java's ``\\w``, ``\\d`` and ``\\s`` are ASCII alone, its ``\\p{..}`` classes are Unicode's.
    """
    return regex.compile(_SURROGATES.sub(_one_character, java), 0 if r"\p" in java else regex.ASCII)


def matches(java: str, value: str) -> bool:
    """Whether the whole of `value` matches."""
    try:
        return compiled(java).fullmatch(value, timeout=TIME_S) is not None
    except TimeoutError:
        return False


def _one_character(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
