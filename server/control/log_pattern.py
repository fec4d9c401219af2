"""CloudWatch Logs' filter patterns for unstructured text: terms that must, may or must not be in an event.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import re
from collections.abc import Callable

from server.errors import Refusal

_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')

Matches = Callable[[str], bool]


def matcher(pattern: str) -> Matches:
    """Whether an event matches: all plain terms, no `-term`, and one of the `?terms` where there is any.

    Terms are case-sensitive, as there. Raises InvalidParameterException for patterns over JSON fields, columns
    and regular expressions.
    """
    text = pattern.strip()
    if text[:1] in ("{", "[", "%"):
        raise _refused(f"{pattern!r}: patterns of terms work here, those over JSON fields, columns or %regex% do not.")
    every: list[str] = []
    some: list[str] = []
    none: list[str] = []
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None:
            raise _refused(f"{pattern!r}: a quotation mark is not closed.")
        term = found[3] if found[3] is not None else re.sub(r"\\(.)", r"\1", found[2])
        {"": every, "?": some, "-": none}[found[1]].append(term)
        position = found.end()
    return lambda event: (
        all(term in event for term in every)
        and not any(term in event for term in none)
        and (not some or any(term in event for term in some))
    )


def _refused(message: str) -> Refusal:
    return Refusal("InvalidParameterException", f"Invalid filter pattern {message}", field="filterPattern")
