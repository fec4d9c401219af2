"""The service model's patterns. They are Java's; `regex` knows nearly all of that dialect."""

from __future__ import annotations

import re
from functools import cache
from time import thread_time

import regex

TIME_S = 0.5
"""Bound on all matches of one request together, in seconds of computing."""

_SURROGATES = re.compile(r"\\u(D[89AB][0-9A-F]{2})\\u(D[C-F][0-9A-F]{2})", re.IGNORECASE)
"""Java writes a character beyond U+FFFF as two."""


@cache
def compiled(java: str) -> regex.Pattern[str]:
    """The pattern, ready to match whole values.

    Java's ``\\w``, ``\\d`` and ``\\s`` are ASCII alone, its ``\\p{..}`` classes are Unicode's.
    """
    return regex.compile(_SURROGATES.sub(_one_character, java), 0 if r"\p" in java else regex.ASCII)


class Patience:
    """Matches the values of one request; once its time is used up, none matches any more."""

    def __init__(self, seconds: float = TIME_S) -> None:
        self._left = seconds

    def matches(self, java: str, value: str) -> bool:
        """Whether the whole of `value` matches."""
        if self._left <= 0:
            return False
        pattern, began = compiled(java), thread_time()
        try:
            return pattern.fullmatch(value, timeout=self._left) is not None
        except TimeoutError:
            self._left = 0.0
            return False
        finally:
            self._left -= thread_time() - began


def _one_character(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
