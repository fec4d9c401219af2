"""Which inference component a request is for that the edge could not send on itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import Scope

from server.control import components
from server.dialects.call import COMPONENT
from server.dialects.components import missing, no_capacity, not_allowed, not_found
from server.dialects.documents import parse_object
from server.dialects.paths import Kind, route_of
from server.errors import NotFound
from server.spec import EndpointSpec
from server.store.store import Resource, Store

JSON_DEPTH = 64


class Found(Protocol):
    """An endpoint, and the component by whose name it was found."""

    @property
    def spec(self) -> EndpointSpec: ...

    @property
    def account(self) -> str: ...

    @property
    def component(self) -> str: ...


Finder = Callable[[str, str, str], Resource | None]
"""By account, endpoint and name; None: that endpoint has no such component."""


def component_finder(store: Store) -> Finder:
    def find(account: str, endpoint: str, name: str) -> Resource | None:
        try:
            found = store.of(account).get(components.KIND, name)
        except NotFound:
            return None
        return found if found.document["EndpointName"] == endpoint and found.status != "Deleting" else None

    return find


def component_of(find: Finder, scope: Scope, body: bytes, found: Found) -> str:
    """The base component whose copies answer; empty for an endpoint without components.

    Raises BadRequest in SageMaker's words where none is named that must be, or one that is not there or has no copies.
    """
    endpoint = found.spec.name
    route = route_of(scope["path"])
    named = route.component or Headers(scope=scope).get(COMPONENT.decode())
    if not found.spec.hosts:
        if named:
            raise not_allowed(endpoint)
        return ""
    if not named and found.component:
        named = found.component
    elif not named and route.kind is Kind.OPENAI and scope["method"] == "POST":
        model = parse_object(body, JSON_DEPTH).get("model")
        named = model if isinstance(model, str) and model != endpoint else None
    if not named:
        raise missing()
    component = find(found.account, endpoint, named)
    if component is not None and (base := components.base_of(component)) is not None:
        component = find(found.account, endpoint, base)
    if component is None:
        raise not_found(named[:63], endpoint)
    if not components.copies(components.fleet(component)):
        raise no_capacity()
    return component.name
