"""Model cards: documents about a model. A changed content is a new version; a changed status is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.control import kind as kinds
from server.control.kind import Kind, find, make, plain
from server.control.listing import lists
from server.control.operations import Answer, Context, Request
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, NotFound
from server.store.listing import Query, page
from server.store.store import Resource, Store

VERSION = "ModelCardVersion"
UNENCRYPTED: Mapping[str, tuple[str, ...]] = {
    "model_overview": ("model_id", "model_name"),
    "intended_uses": ("risk_rating",),
    "model_package_details": ("model_package_group_name", "model_package_arn"),
}
"""What MetadataOnly leaves of the content."""


def _view(resource: Resource) -> dict[str, Any]:
    return {**kinds.view(resource), "ModelCardStatus": resource.status}


def _version_view(resource: Resource) -> dict[str, Any]:
    return {
        **kinds.view(resource),
        "ModelCardName": resource.document["ModelCardName"],
        "ModelCardArn": resource.document["ModelCardArn"],
        "ModelCardVersion": resource.document[VERSION],
        "ModelCardStatus": resource.status,
    }


def _narrow(_context: Context, request: Request) -> dict[str, Any]:
    return {"statuses": (request["ModelCardStatus"],)} if "ModelCardStatus" in request else {}


def _narrow_versions(context: Context, request: Request) -> dict[str, Any]:
    card = find(context, KIND, request["ModelCardName"])
    return {**_narrow(context, request), "facets": {"ModelCardName": card.name}}


KIND = Kind(name="ModelCard", title="model card", view=_view, filters=("ModelCardStatus",), narrow=_narrow)
VERSIONS = Kind(
    name=VERSION,
    title="model card version",
    view=_version_view,
    orders={"Version": "created"},
    filters=("ModelCardName", "ModelCardStatus"),
    narrow=_narrow_versions,
)

lists(KIND)
lists(VERSIONS)


@SAGEMAKER.operation
def create_model_card(context: Context, request: Request) -> Answer:
    _check_content(request["Content"])
    document = {**plain(request), VERSION: 1}
    status = document.pop("ModelCardStatus")
    with context.store.transaction() as store:
        inside = replace(context, store=store)
        card = make(inside, KIND, request["ModelCardName"], document, request, status)
        store.count(card)
        _keep(store, card, status)
    return _view(card)


@SAGEMAKER.operation
def describe_model_card(context: Context, request: Request) -> Answer:
    card = find(context, KIND, request["ModelCardName"])
    number = request.get(VERSION, card.document[VERSION])
    found = _view(card)
    if number != card.document[VERSION]:
        try:
            found = _version_view(context.store.get(VERSION, f"{card.name}/{number}"))
        except NotFound:
            raise NotFound(f'Could not find version {number} of model card "{card.arn}".') from None
    if request.get("IncludedData") == "MetadataOnly":
        found["Content"] = json.dumps(_unencrypted(json.loads(found["Content"])))
    return found


@SAGEMAKER.operation
def update_model_card(context: Context, request: Request) -> Answer:
    if "Content" in request and "ModelCardStatus" in request:
        raise BadRequest("Content and ModelCardStatus cannot be updated in one call.")
    card = find(context, KIND, request["ModelCardName"])
    status = request.get("ModelCardStatus", card.status)
    document = dict(card.document)
    document["LastModifiedBy"] = {"IamIdentity": {"Arn": context.principal.arn}}
    with context.store.transaction() as store:
        if "Content" in request:
            _check_content(request["Content"])
            document |= {"Content": request["Content"], VERSION: store.count(card)}
        changed = store.replace(card, document, status)
        if "Content" in request:
            _keep(store, changed, status)
        else:
            version = store.get(VERSION, f"{card.name}/{document[VERSION]}")
            store.replace(version, version.document, status)
    return _view(changed)


@SAGEMAKER.operation
def delete_model_card(context: Context, request: Request) -> Answer:
    """The card and all its versions."""
    card = find(context, KIND, request["ModelCardName"])
    with context.store.transaction() as store:
        store.remove(card)
        while versions := page(store, Query(VERSION, facets={"ModelCardName": card.name}), 100).resources:
            for version in versions:
                store.remove(version)
    return {}


def _keep(store: Store, card: Resource, status: str) -> None:
    """Keeps the card as it is now as its version."""
    document = {**card.document, "ModelCardName": card.name, "ModelCardArn": card.arn}
    name = f"{card.name}/{card.document[VERSION]}"
    store.create(VERSION, name, document, status, facets={"ModelCardName": card.name})


def _check_content(content: str) -> None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadRequest("Content must be a JSON object, as text.", field="content")


def _unencrypted(content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for part, names in UNENCRYPTED.items():
        inside = content.get(part)
        if isinstance(inside, dict) and (found := {name: inside[name] for name in names if name in inside}):
            kept[part] = found
    return kept
