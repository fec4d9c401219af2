"""Which bytes of an object a request asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from server.objects.errors import ObjectError

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    size: int
    total: int

    @property
    def text(self) -> str:
        """As Content-Range says it."""
        return f"bytes {self.start}-{self.start + self.size - 1}/{self.total}"


def span_of(text: str, total: int) -> Span | None:
    """The stretch that a Range header means; None for one that is to be ignored (several ranges, other units).

    Raises InvalidRange where it lies outside the object.
    """
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        size = min(int(match[2]), total)
        span = Span(total - size, size, total)
    else:
        start = int(match[1])
        end = min(int(match[2]), total - 1) if match[2] else total - 1
        if match[2] and int(match[2]) < start:
            return None
        span = Span(start, end - start + 1, total)
    if span.size <= 0:
        raise ObjectError("InvalidRange", RangeRequested=text, ActualObjectSize=str(total))
    return span


def copied_span(text: str, total: int) -> Span:
    """The stretch of a part's copy: first and last byte, both said, both in the object. Raises InvalidArgument."""
    match = re.fullmatch(r"bytes=(\d{1,19})-(\d{1,19})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ObjectError(
            "InvalidArgument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            ArgumentName="x-amz-copy-source-range", ArgumentValue=text,
        )  # fmt: skip
    if int(match[2]) >= total:
        raise ObjectError(
            "InvalidArgument", f"Range specified is not valid for source object of size: {total}",
            ArgumentName="x-amz-copy-source-range", ArgumentValue=text,
        )  # fmt: skip
    return Span(int(match[1]), int(match[2]) - int(match[1]) + 1, total)
