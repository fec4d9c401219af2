"""A statement's Condition: which operators there are and when each holds.

Operators are joined by AND, keys by AND, a key's values by OR (by NOR for a negated operator). A key that the request
lacks makes an operator false, a negated one true, and one that ends in IfExists true; of a set of values,
`ForAllValues` of none is true, `ForAnyValue` of none false. AWS wants one of these two for keys of several values and
does not say what else happens: here an Allow then needs all of them to fit, and a Deny any.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from server.identity.policy.malformed import LEGACY, MalformedPolicy
from server.identity.policy.patterns import Arn, Text, Values

Test = Callable[[str, Values], bool]
"""Whether one value of the request fits one value of the policy."""

IF_EXISTS = "IfExists"
ALL, ANY = "ForAllValues", "ForAnyValue"


@dataclass(frozen=True, slots=True)
class Clause:
    """One operator on one key."""

    key: str
    """In lower case."""
    tests: tuple[Test, ...]
    negated: bool
    every: bool
    """Whether all values of the request must fit, or any."""
    absent: bool
    """Its answer when the request has no such key."""

    def holds(self, values: Values) -> bool:
        given = values.get(self.key)
        if not given:
            return self.absent
        for value in given:
            if (self._fits(value, values) != self.negated) != self.every:
                return not self.every
        return self.every

    def _fits(self, value: str, values: Values) -> bool:
        for test in self.tests:  # noqa: SIM110 - a plain loop: this is the path of every request
            if test(value, values):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Presence:
    """The operator Null."""

    key: str
    wanted: frozenset[bool]
    """True: the key must be missing."""

    def holds(self, values: Values) -> bool:
        return (not values.get(self.key)) in self.wanted


@dataclass(frozen=True, slots=True)
class Conditions:
    clauses: tuple[Clause | Presence, ...]
    keys: frozenset[str]
    """Every key and variable named, as written."""


def compile_conditions(block: Mapping[str, Mapping[str, Any]], *, variables: bool, allow: bool) -> Conditions:
    """`allow` is the statement's effect. Raises MalformedPolicy for an operator or a value that is none."""
    clauses: list[Clause | Presence] = []
    named: set[str] = set()
    for written, keys in block.items():
        if not keys:
            continue
        each, base, lenient = _operator(written)
        for key, given in keys.items():
            texts = tuple(_text(value) for value in (given if isinstance(given, list) else [given]))
            named.add(key)
            if base == "Null":
                clauses.append(Presence(key.lower(), frozenset(_truth(text) for text in texts)))
                continue
            make, negated = OPERATORS[base]
            made = [make(text, variables) for text in texts]
            named.update(*(used for _, used in made))
            absent = lenient or each == ALL or (each != ANY and negated)
            every = each == ALL or (not each and allow)
            clauses.append(Clause(key.lower(), tuple(test for test, _ in made), negated, every, absent))
    return Conditions(tuple(clauses), frozenset(named))


def _operator(written: str) -> tuple[str, str, bool]:
    each, colon, base = written.rpartition(":")
    if colon and each not in (ALL, ANY):
        raise MalformedPolicy
    lenient = base.endswith(IF_EXISTS)
    base = base.removesuffix(IF_EXISTS)
    if base not in OPERATORS and (base != "Null" or lenient):
        raise MalformedPolicy
    return each, base, lenient


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise MalformedPolicy


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise MalformedPolicy
    return text.lower() == "true"


Made = tuple[Test, frozenset[str]]
NO_KEYS: frozenset[str] = frozenset()


def _equals(text: str, variables: bool) -> Made:
    wanted = Text(text, variables=variables, wildcards=False)
    return wanted.matches, wanted.keys


def _equals_in_any_case(text: str, variables: bool) -> Made:
    wanted = Text(text, variables=variables, wildcards=False)

    def test(value: str, values: Values) -> bool:
        found = wanted.text(values)
        return found is not None and found.lower() == value.lower()

    return test, wanted.keys


def _like(text: str, variables: bool) -> Made:
    wanted = Text(text, variables=variables)
    return wanted.matches, wanted.keys


def _arn(text: str, variables: bool) -> Made:
    wanted = Arn(text, variables=variables)
    return wanted.matches, wanted.keys


def number(text: str) -> Decimal | None:
    """A decimal number; None for anything else."""
    if len(text) > 64 or not text.isascii():
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found if found.is_finite() and "_" not in text else None


def moment(text: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 date (W3C's profile; UTC where it says no zone) or of such seconds."""
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 19 else None
    try:
        found = datetime.fromisoformat(f"{text}-01" if len(text) == 7 else text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str], Any], holds: Callable[[Any, Any], bool]) -> Callable[[str, bool], Made]:
    def make(text: str, _variables: bool) -> Made:
        wanted = read(text)
        if wanted is None:
            raise MalformedPolicy(LEGACY)

        def test(value: str, _values: Values) -> bool:
            given = read(value)
            return given is not None and holds(given, wanted)

        return test, NO_KEYS

    return make


def _octets(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


@lru_cache(maxsize=4096)
def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address; one of IPv4 dressed as IPv6 is itself."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _in_network(text: str, _variables: bool) -> Made:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise MalformedPolicy(LEGACY) from None

    def test(value: str, _values: Values) -> bool:
        given = address(value)
        return given is not None and given.version == network.version and given in network

    return test, NO_KEYS


def _orders(kind: str, read: Callable[[str], Any]) -> dict[str, tuple[Callable[[str, bool], Made], bool]]:
    return {
        f"{kind}Equals": (_ordered(read, lambda given, wanted: bool(given == wanted)), False),
        f"{kind}NotEquals": (_ordered(read, lambda given, wanted: bool(given == wanted)), True),
        f"{kind}LessThan": (_ordered(read, lambda given, wanted: bool(given < wanted)), False),
        f"{kind}LessThanEquals": (_ordered(read, lambda given, wanted: bool(given <= wanted)), False),
        f"{kind}GreaterThan": (_ordered(read, lambda given, wanted: bool(given > wanted)), False),
        f"{kind}GreaterThanEquals": (_ordered(read, lambda given, wanted: bool(given >= wanted)), False),
    }


OPERATORS: Mapping[str, tuple[Callable[[str, bool], Made], bool]] = {
    "StringEquals": (_equals, False),
    "StringNotEquals": (_equals, True),
    "StringEqualsIgnoreCase": (_equals_in_any_case, False),
    "StringNotEqualsIgnoreCase": (_equals_in_any_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    **_orders("Numeric", number),
    **_orders("Date", moment),
    "Bool": (_equals_in_any_case, False),
    "BinaryEquals": (_ordered(_octets, lambda given, wanted: bool(given == wanted)), False),
    "IpAddress": (_in_network, False),
    "NotIpAddress": (_in_network, True),
    "ArnEquals": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnLike": (_arn, False),
    "ArnNotLike": (_arn, True),
}
"""How a value of the policy is tested, and whether the operator is negated. Null stands apart."""
