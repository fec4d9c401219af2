"""Texts of policies that may hold wildcards and variables, and what they match.

Nothing a policy says becomes a regular expression. A pattern is cut at its `*`s; each piece is searched for once, from
where the one before it ended, so that matching takes time linear in the value (a piece with `?`s is searched for with
the shift-and algorithm). What a variable stands for is literal text: a `*` in a user's name matches a `*`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import accumulate

Values = Mapping[str, tuple[str, ...]]
"""A request's context: values by condition key in lower case."""

Match = Callable[[str], bool]


class Wild(Enum):
    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    key: str
    """In lower case."""
    written: str
    default: str | None = None


Token = str | Wild | Variable
Tokens = tuple[Token, ...]


def tokens(text: str, *, variables: bool, wildcards: bool = True) -> Tokens:
    """A policy's text in parts. Version 2008 has no `variables`: there, ${...} is text."""
    found: list[Token] = []
    place = 0
    closing = _Closing(text) if variables and "${" in text else None
    while place < len(text):
        character = text[place]
        if wildcards and character in "*?":
            found.append(Wild(character))
            place += 1
        elif closing is not None and text.startswith("${", place) and (close := closing.of(place + 2)) > 0:
            found.append(_variable(text[place + 2 : close]))
            place = close + 1
        else:
            found.append(character)
            place += 1
    return _joined(found)


class _Closing:
    """Where variables end: found for all of a text at once, so that many that never do cost no more than one."""

    def __init__(self, text: str) -> None:
        self._quotes = list(accumulate((character == "'" for character in text), initial=0))
        self._braces: tuple[list[int], list[int]] = ([], [])
        for place, character in enumerate(text):
            if character == "}":
                self._braces[self._quotes[place] % 2].append(place)

    def of(self, place: int) -> int:
        """The } of a variable whose name begins at `place`, beyond any default in quotes; -1 when it never ends."""
        braces = self._braces[self._quotes[place] % 2]
        at = bisect_left(braces, place)
        return braces[at] if at < len(braces) else -1


def _variable(inside: str) -> Token:
    if inside in ("*", "?", "$"):
        return inside
    name, comma, rest = inside.partition(",")
    rest = rest.strip()
    default = rest[1:-1].replace("''", "'") if comma and len(rest) > 1 and rest[0] == rest[-1] == "'" else None
    return Variable(name.strip().lower(), name.strip(), default)


def _joined(found: Sequence[Token]) -> Tokens:
    """Neighbouring texts as one, neighbouring `*`s too."""
    joined: list[Token] = []
    for token in found:
        last = joined[-1] if joined else None
        if isinstance(token, str) and isinstance(last, str):
            joined[-1] = last + token
        elif token != "" and not (token is Wild.ANY and last is Wild.ANY):
            joined.append(token)
    return tuple(joined)


def resolved(parts: Tokens, values: Values) -> Tokens | None:
    """`parts` with each variable's value; None when one has no single value and no default."""
    found: list[Token] = []
    for token in parts:
        if isinstance(token, Variable):
            given = values.get(token.key, ())
            value = given[0] if len(given) == 1 else token.default
            if value is None:
                return None
            found.append(value)
        else:
            found.append(token)
    return _joined(found)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What stands between two `*`s. Bit i of `holes` is a `?` at i."""

    text: str
    holes: int

    def at(self, value: str, place: int) -> bool:
        if not self.holes:
            return value.startswith(self.text, place)
        if len(value) - place < len(self.text):
            return False
        return all(self.holes >> i & 1 or value[place + i] == c for i, c in enumerate(self.text))

    def find(self, value: str, place: int) -> int:
        """Where its first occurrence from `place` on ends; -1 for none."""
        if not self.holes:
            at = value.find(self.text, place)
            return at if at < 0 else at + len(self.text)
        masks: dict[str, int] = {}
        for i, character in enumerate(self.text):
            if not self.holes >> i & 1:
                masks[character] = masks.get(character, self.holes) | 1 << i
        state, last = 0, 1 << (len(self.text) - 1)
        for at in range(place, len(value)):
            state = (state << 1 | 1) & masks.get(value[at], self.holes)
            if state & last:
                return at + 1
        return -1


def _pieces(parts: Tokens) -> list[_Piece]:
    pieces = []
    text, holes = "", 0
    for token in parts:
        if token is Wild.ANY:
            pieces.append(_Piece(text, holes))
            text, holes = "", 0
        elif token is Wild.ONE:
            holes |= 1 << len(text)
            text += "?"
        else:
            text += str(token)
    return [*pieces, _Piece(text, holes)]


@lru_cache(maxsize=8192)
def matcher(parts: Tokens) -> Match:
    """What a text with no variables matches."""
    first, *rest = _pieces(parts)
    if not rest:
        if not first.holes:
            return first.text.__eq__
        return lambda value: len(value) == len(first.text) and first.at(value, 0)
    *middle, last = rest
    if not middle and not first.holes and not last.text:
        start = first.text
        return (lambda value: True) if not start else (lambda value: value.startswith(start))

    def match(value: str) -> bool:
        end = len(value) - len(last.text)
        if end < len(first.text) or not first.at(value, 0) or not last.at(value, end):
            return False
        place = len(first.text)
        for piece in middle:
            place = piece.find(value, place)
            if place < 0:
                return False
        return place <= end

    return match


def segments(parts: Tokens) -> tuple[Tokens, ...]:
    """An ARN's pattern cut at its first five colons."""
    found: list[list[Token]] = [[]]
    for token in parts:
        if not isinstance(token, str):
            found[-1].append(token)
            continue
        head, *tail = token.split(":", 6 - len(found))
        found[-1].append(head)
        found.extend([part] for part in tail)
    return tuple(_joined(part) for part in found)


@lru_cache(maxsize=8192)
def arn_matcher(parts: tuple[Tokens, ...]) -> Match:
    """No wildcard reaches over a colon but one in the last segment, which reaches to the value's end."""
    if len(parts) == 1:
        return matcher(parts[0])
    if not any(isinstance(token, Wild) for part in parts for token in part):
        return ":".join("".join(map(str, part)) for part in parts).__eq__
    colons = len(parts) - 1
    checks = [(at, matcher(part)) for at, part in enumerate(parts) if part != (Wild.ANY,)]
    checks.reverse()

    def match(value: str) -> bool:
        given = value.split(":", colons)
        if len(given) <= colons:
            return False
        for at, check in checks:  # noqa: SIM110 - a plain loop: this is the path of every request
            if not check(given[at]):
                return False
        return True

    return match


class Text:
    """A policy's value against a whole text."""

    __slots__ = ("_match", "_parts", "keys")

    def __init__(self, text: str, *, variables: bool, wildcards: bool = True) -> None:
        self._parts = tokens(text, variables=variables, wildcards=wildcards)
        self.keys = frozenset(token.written for token in self._parts if isinstance(token, Variable))
        """Condition keys that its variables name."""
        self._match = None if self.keys else self._compiled(self._parts)

    def matches(self, value: str, values: Values) -> bool:
        """A variable without a value matches nothing."""
        if self._match is not None:
            return self._match(value)
        parts = resolved(self._parts, values)
        return parts is not None and self._compiled(parts)(value)

    def resolvable(self, values: Values) -> bool:
        return not self.keys or resolved(self._parts, values) is not None

    def text(self, values: Values) -> str | None:
        """The value itself, where there are no wildcards; None when a variable has no value."""
        parts = resolved(self._parts, values)
        return None if parts is None else "".join(str(token) for token in parts)

    def _compiled(self, parts: Tokens) -> Match:
        return matcher(parts)


class Arn(Text):
    """A policy's value against an ARN, segment by segment."""

    __slots__ = ("_segments",)

    def __init__(self, text: str, *, variables: bool) -> None:
        super().__init__(text, variables=variables)
        cut = segments(self._parts) if self.keys else ()
        self._segments = [(part, None if _varies(part) else matcher(part)) for part in cut]

    def matches(self, value: str, values: Values) -> bool:
        if self._match is not None:
            return self._match(value)
        given = value.split(":", len(self._segments) - 1)
        if len(given) != len(self._segments):
            return False
        for (part, match), text in zip(self._segments, given, strict=True):
            if match is not None:
                if not match(text):
                    return False
                continue
            filled = resolved(part, values)
            if filled is None or not matcher(filled)(text):
                return False
        return True

    def _compiled(self, parts: Tokens) -> Match:
        return arn_matcher(segments(parts))


def _varies(parts: Tokens) -> bool:
    return any(isinstance(token, Variable) for token in parts)
