"""Kinds of resources. What is regular about them is said once here; a kind adds what is its own.

SageMaker names things regularly: kind `Model` has ModelName, ModelArn and maybe ModelStatus, and the
operations CreateModel, DescribeModel, ListModels and DeleteModel. The answers are projections of a
resource's *view*: its document and what the store knows about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from server.control.operations import Answer, Context, Request
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, Conflict, NotFound
from server.identity.principal import root_arn
from server.store.store import Resource

Facets = Callable[[Mapping[str, Any]], Mapping[str, str]]


def _no_facets(_document: Mapping[str, Any]) -> Mapping[str, str]:
    return {}


def view(resource: Resource) -> dict[str, Any]:
    """A resource as answers are projected from it."""
    kind = resource.kind
    return {
        "CreatedBy": {"IamIdentity": {"Arn": root_arn(resource.arn.split(":")[4])}},
        f"{kind}Status": resource.status,
        **resource.document,
        f"{kind}Name": resource.name,
        f"{kind}Arn": resource.arn,
        "FailureReason": resource.reason,
        "CreationTime": resource.created_at,
        "LastModifiedTime": resource.modified_at,
    }


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a kind is called, where it starts, and how it is listed."""

    name: str
    title: str
    """In messages: `Could not find TITLE "ARN".`"""
    plural: str = ""
    """In the name of the List operation; default: the name and an s."""
    initial: str = "Active"
    view: Callable[[Resource], Mapping[str, Any]] = view
    facets: Facets = _no_facets
    """Values of a document that its list is filtered by."""
    ascending: bool = False
    """Order of the list when none is asked for."""
    orders: Mapping[str, str] | None = None
    """SortBy values of its own, as the store's orders."""
    filters: tuple[str, ...] = ()
    """Members of the list's input that only `narrow` understands."""
    narrow: Callable[[Context, Request], Mapping[str, Any]] | None = None
    """Those members as fields of the store's `Query`."""

    @property
    def listed(self) -> str:
        return self.plural or f"{self.name}s"

    @property
    def name_member(self) -> str:
        return f"{self.name}Name"


def find(context: Context, kind: Kind, given: str) -> Resource:
    """The resource by its name, or by its ARN where the operation takes one. Raises NotFound."""
    try:
        if given.startswith("arn:"):
            found = context.store.by_arn(given)
            if found.kind == kind.name:
                return found
        return context.store.get(kind.name, given)
    except NotFound:
        arn = given if given.startswith("arn:") else context.store.arn(kind.name, given)
        raise NotFound(f'Could not find {kind.title} "{arn}".', field=kind.name_member) from None


def make(
    context: Context, kind: Kind, name: str, document: Mapping[str, Any], request: Request, status: str = ""
) -> Resource:
    """A new resource and the request's tags, in one transaction. Raises Conflict when the name is taken."""
    with context.store.transaction() as store:
        try:
            return store.create(
                kind.name, name, document, status or kind.initial, facets=kind.facets(document),
                tags=tag_map(request.get("Tags", ())),
            )  # fmt: skip
        except Conflict:
            arn = store.arn(kind.name, name)
            raise Conflict(f'Cannot create already existing {kind.title} "{arn}".', field=kind.name_member) from None


def tag_map(given: Any) -> dict[str, str]:
    """Tags as they travel, by key. Raises BadRequest when a key comes twice."""
    found: dict[str, str] = {}
    for tag in given:
        if tag["Key"] in found:
            raise BadRequest(f"Tag key {tag['Key']!r} was given more than once.", field="tags")
        if tag["Key"].lower().startswith("aws:"):
            raise BadRequest(f"Tag key {tag['Key']!r}: keys that begin with aws: are AWS's own.", field="tags")
        found[tag["Key"]] = tag["Value"]
    return found


def plain(request: Request) -> dict[str, Any]:
    """A request as a document: all but what is kept elsewhere."""
    return {name: value for name, value in request.items() if name not in ("Tags", "ClientToken")}


def creates(kind: Kind, check: Callable[[Context, Request], None] | None = None) -> None:
    """Registers Create: the request is the document, once `check` has not refused it."""

    def create(context: Context, request: Request) -> Answer:
        if check is not None:
            check(context, request)
        return kind.view(make(context, kind, request[kind.name_member], plain(request), request))

    SAGEMAKER.register(f"Create{kind.name}", create)


def describes(kind: Kind) -> None:
    """Registers Describe."""

    def describe(context: Context, request: Request) -> Answer:
        return kind.view(find(context, kind, request[kind.name_member]))

    SAGEMAKER.register(f"Describe{kind.name}", describe)


def deletes(kind: Kind, check: Callable[[Context, Resource], None] | None = None) -> None:
    """Registers Delete: at once, unless `check`, in the same transaction, refuses it."""

    def delete(context: Context, request: Request) -> Answer:
        found = find(context, kind, request[kind.name_member])
        with context.store.transaction() as store:
            store.remove(found)
            if check is not None:
                check(replace(context, store=store), found)
        return {}

    SAGEMAKER.register(f"Delete{kind.name}", delete)
