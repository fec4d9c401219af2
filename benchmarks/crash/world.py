"""What one user's resources should be, all of them together: a world is a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Tags = frozenset[tuple[str, str]]
Status = Literal["Creating", "Updating", "InService", "Failed", "Deleting"]

CHANGING = ("Creating", "Updating")

@dataclass(frozen=True, slots=True)
class Model:
    tags: Tags
    answer: str
    """What its replicas say."""
    runnable: bool


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    model: str
    weight: float
    count: int
    answer: str = ""
    """Of an endpoint's variant: its model's, when the endpoint was asked for."""


@dataclass(frozen=True, slots=True)
class Config:
    tags: Tags
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    tags: Tags
    config: str
    variants: tuple[Variant, ...]
    status: Status
    runnable: bool = True
    pending: tuple[str, tuple[Variant, ...]] | None = None
    """Configuration and variants that take the place of these when their rollout is through."""


@dataclass(frozen=True, slots=True)
class Group:
    tags: Tags
    given: int = 0
    """How many version numbers were given away."""


@dataclass(frozen=True, slots=True)
class Package:
    tags: Tags
    token: str
    approval: str


Thing = Model | Config | Endpoint | Group | Package
Key = tuple[str, str]
"""Kind and name."""
World = frozenset[tuple[Key, Thing]]
Things = dict[Key, Thing]
"""A world while it is changed."""

EMPTY: World = frozenset()


def advanced(world: World) -> Iterator[World]:
    """The worlds that the controller may make of this one, a step each."""
    for key, thing in world:
        if isinstance(thing, Endpoint):
            if thing.status == "Deleting":
                yield world - {(key, thing)}
            elif thing.status in CHANGING:
                yield world - {(key, thing)} | {(key, _ended(thing))}


def _ended(endpoint: Endpoint) -> Endpoint:
    config, variants = endpoint.pending or (endpoint.config, endpoint.variants)
    status: Status = "InService" if endpoint.runnable else "Failed"
    return replace(endpoint, config=config, variants=variants, status=status, pending=None)


@dataclass(frozen=True, slots=True)
class Ending:
    """In an answer: any text that ends so."""

    text: str


def agrees(expected: Any, got: Any) -> bool:
    """Whether an answer is what a world decides; members that it does not decide may be anything."""
    if isinstance(expected, Mapping):
        return isinstance(got, Mapping) and all(agrees(value, got.get(name)) for name, value in expected.items())
    if isinstance(expected, list):
        return len(expected) == len(got) and all(agrees(one, other) for one, other in zip(expected, got, strict=True))
    return got.endswith(expected.text) if isinstance(expected, Ending) else bool(expected == got)
