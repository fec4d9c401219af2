"""S3's operations as botocore's service model has them, and which of them a request asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.objects.errors import ObjectError

MODEL: Any = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")

_SHADOWS = {"ListDirectoryBuckets", "WriteGetObjectResponse", "GetBucketLifecycle", "GetBucketNotification"}
"""Other services' calls and obsolete twins that a request cannot be told apart from."""

_BUCKET, _KEY = "/{Bucket}", "/{Bucket}/{Key+}"


@dataclass(frozen=True, slots=True)
class Route:
    """What a request must have to be one operation."""

    operation: Any
    method: str
    path: str
    fixed: Mapping[str, str]
    """Query parameters of the address itself; the empty value stands for any."""
    needed: frozenset[str]
    """Query parameters of required members."""
    headers: frozenset[str]

    def fits(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        return (
            all(name in query and value in ("", query[name]) for name, value in self.fixed.items())
            and self.needed <= query.keys()
            and self.headers <= headers.keys()
        )

    @property
    def weight(self) -> int:
        return len(self.fixed) + len(self.needed) + len(self.headers)


def _route(operation: Any) -> Route:
    path, _, fixed = operation.http["requestUri"].partition("?")
    pairs = (part.partition("=") for part in fixed.split("&") if part)
    members = operation.input_shape.members if operation.input_shape else {}
    required = operation.input_shape.required_members if operation.input_shape else ()
    places = [members[name].serialization for name in required]
    return Route(
        operation,
        operation.http["method"],
        path,
        {name: value for name, _, value in pairs},
        frozenset(place["name"] for place in places if place.get("location") == "querystring"),
        frozenset(place["name"].lower() for place in places if place.get("location") == "header"),
    )


ROUTES: tuple[Route, ...] = tuple(
    sorted(
        (_route(MODEL.operation_model(name)) for name in MODEL.operation_names if name not in _SHADOWS),
        key=lambda route: -route.weight,
    )
)
"""The most particular first."""

SUBRESOURCES = frozenset(name for route in ROUTES for name in (*route.fixed, *route.needed))
"""Query parameters that turn a request into another operation."""


def find(method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Any:
    """The operation model. Raises MethodNotAllowed, or NotImplemented for what no operation is."""
    path = _KEY if key else _BUCKET if bucket else "/"
    here = [route for route in ROUTES if route.path == path and route.method == method]
    if not here:
        raise ObjectError("MethodNotAllowed", Method=method, ResourceType="OBJECT" if key else "BUCKET")
    # A parameter that would make the request another operation must not be dropped: PUT ?uploadId= without
    # partNumber is no plain PUT.
    asked = SUBRESOURCES & query.keys()
    for route in here:
        if route.fits(query, headers) and asked <= _taken(route):
            return route.operation
    raise not_built(f"{method} with {_named(asked)}" if asked else f"this {method}")


def not_built(what: str) -> ObjectError:
    return ObjectError("NotImplemented", f"A header or parameter you provided implies functionality that is not "
                                         f"implemented: {what}.", Header=what)  # fmt: skip


def _taken(route: Route) -> frozenset[str]:
    shape = route.operation.input_shape
    members = shape.members.values() if shape else ()
    places = (member.serialization for member in members)
    return frozenset(route.fixed) | {place["name"] for place in places if place.get("location") == "querystring"}


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"?{name}" for name in sorted(names))
