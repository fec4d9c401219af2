"""Documents for the input shapes of botocore's service models: as they should be, before anything bends them."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from server.control.patterns import Patience

NAMES = ("a", "m", "b-1", "model-a", "config-a", "group-a", "Endpoint9")
"""Few, so that what one request makes another one finds."""
SAMPLES = (
    *NAMES, "1", "/a", "s3://bucket/key", "https://a.example.com/key", "key=value", "1.0", "1.0.0", "us-east-1",
    "alias/a",
    "arn:aws:iam::123456789012:role/r", "arn:aws:sagemaker:us-east-1:123456789012:model/m", "123456789012",
    "ml.m5.large",
    "arn:aws:sagemaker:us-east-1:123456789012:endpoint/a", "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
    "AKIAIOSFODNN7EXAMPLE",
    "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "/aws/sagemaker/Endpoints/a", "a/b",
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}', "US", "a@b.c", "d-1", "p1",
)  # fmt: skip


@cache
def _fitting(pattern: str | None, low: int, high: int) -> tuple[str, ...]:
    found = [each for each in SAMPLES if low <= len(each) <= high]
    return tuple(each for each in found if pattern is None or Patience().matches(pattern, each)) or ("a" * max(1, low),)


def document(shape: Any, random: Random, depth: int = 0) -> Any:
    """A value of `shape`, most likely a valid one; optional members come at falling odds."""
    kind, facts = shape.type_name, shape.metadata
    if kind == "structure":
        required = set(shape.required_members)
        odds = 0.5 / (depth + 1) if depth < 6 else 0.0
        return {name: document(member, random, depth + 1) for name, member in shape.members.items()
                if name in required or random.random() < odds}  # fmt: skip
    if kind == "list":
        low = min(facts.get("min", 0), 5)
        return [document(shape.member, random, depth + 1) for _ in range(max(low, random.randrange(3)))]
    if kind == "map":
        return {document(shape.key, random, depth + 1): document(shape.value, random, depth + 1) for _ in range(2)}
    if kind == "string":
        low, high = facts.get("min", 0), facts.get("max", 10**6)
        return random.choice(shape.enum) if shape.enum else random.choice(_fitting(facts.get("pattern"), low, high))
    if kind in ("integer", "long"):
        return random.randint(facts.get("min", 0), min(facts.get("max", 1000), 1000) + facts.get("min", 0))
    if kind in ("float", "double"):
        return random.choice((0.0, 0.5, 1.0, 100.0))
    if kind == "timestamp":
        return random.choice((0, 1_700_000_000, 1_790_000_000.5))
    if kind == "boolean":
        return random.random() < 0.5
    return "YQ=="
