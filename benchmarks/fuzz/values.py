"""Values that programs trip over, drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

STRINGS: tuple[str, ...] = (
    "", " ", "a", "m", "\0", "a\0b", "\n", "a\r\nx-evil: 1", "\ud800", "\udfff\ud800", "é", "\uff41", "\u0131",
    "\u0130", "ß", "\u202e",
    "\ufeff", "\uffff", "\U0010ffff", "a\u0300", "../../../etc/passwd", "..", ".", "/", "//", "\\", "%2e%2e%2f",
    "%00", "%",
    "~", "C:\\", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "s3://", "s3:///", "s3://b/../../k",
    "s3://models/model.tar.gz", "gopher://x", "data:,", "data:image/png;base64,AAAA", "{{7*7}}", "${jndi:ldap://x}",
    "{% for a in range(10**9) %}{% endfor %}", "' OR 1=1 --", "\"; DROP TABLE resources; --", "<script>",
    "<!DOCTYPE a>",
    "&amp;", "*", "?", "[", "(", "(a+)+$", "null", "true", "NaN", "Infinity", "-Infinity", "1e400", "0x10", "-1", "0",
    "9" * 25, "9" * 5000, "1.0", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/a", "arn:aws:iam::123456789012:role/r", "arn:", ":" * 100,
    "a-" * 40, "-" * 100, "a" * 63, "a" * 64, "a" * 65, "a" * 256, "a" * 1025, "x" * 70_000, "€" * 9_000,
    "Z2FyYmFnZQ==",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 100, 101, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, -(2**31) - 1, 2**53, 2**63 - 1, 2**63, 2**64,
    10**30, 10**400, 0.5, -0.0, 1e-300, 1e300, 1e309, -1e309, 253402300800, -62135596801,
)  # fmt: skip


def text(random: Random) -> str:
    """Mostly one of STRINGS, at times two of them or noise."""
    kind = random.random()
    if kind < 0.75:
        return random.choice(STRINGS)
    if kind < 0.9:
        return random.choice(STRINGS) + random.choice(STRINGS)
    return "".join(chr(random.choice((random.randrange(0x80), random.randrange(0x11_0000)))) for _ in range(8))


def number(random: Random) -> Any:
    return random.choice(NUMBERS)


def nested(random: Random, depth: int) -> Any:
    """`depth` lists or objects in one another."""
    value: Any = text(random)
    wrap: Callable[[Any], Any] = random.choice((lambda inner: [inner], lambda inner: {"a": inner}))
    for _ in range(depth):
        value = wrap(value)
    return value


def anything(random: Random, depth: int = 2) -> Any:
    """Any JSON value."""
    kind = random.random()
    if kind < 0.35:
        return text(random)
    if kind < 0.55:
        return number(random)
    if kind < 0.7:
        return random.choice((None, True, False, [], {}))
    if kind < 0.75:
        return nested(random, random.choice((5, 40, 63, 64, 65, 200, 400)))
    if kind < 0.8:
        return [text(random)[:100]] * random.choice((1, 100, 3000))
    if depth == 0:
        return text(random)
    inner = [anything(random, depth - 1) for _ in range(random.randrange(4))]
    return inner if random.random() < 0.5 else {text(random): each for each in inner}


def bend(value: Any, random: Random, odds: float) -> Any:
    """`value` with each of its parts replaced, dropped or repeated at those odds."""
    if random.random() < odds:
        return anything(random)
    if isinstance(value, dict):
        bent = {key: bend(item, random, odds) for key, item in value.items() if random.random() > odds}
        if random.random() < odds:
            bent[text(random)] = anything(random)
        return bent
    if isinstance(value, list):
        return [bend(item, random, odds) for item in value for _ in range(1 if _holds(item) else random.choice((1, 1,
        2)))]
    return value


def _holds(value: Any) -> bool:
    """Whether repeating `value` at every depth would grow without end."""
    return isinstance(value, list | dict)
