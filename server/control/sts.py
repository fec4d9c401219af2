"""STS, as far as SageMaker's clients need it: who am I? AWS's query protocol, answered in XML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.control.kind import root
from server.control.operations import Context
from server.control.reply import Reply

MODEL: Any = ServiceModel(Loader().load_service_model("sts", "service-2"), "sts")
NAMESPACE: str = MODEL.metadata["xmlNamespace"]
VERSION: str = MODEL.metadata["apiVersion"]


def call(context: Context, form: Mapping[str, str]) -> Reply:
    """Answers one call; the only identity there is, is the account itself."""
    action = form.get("Action", "")
    if action != "GetCallerIdentity":
        known = f"Hearth has no operation {action} of STS." if action in MODEL.operation_names else ""
        message = known or f"Could not find operation {action} for version {form.get('Version', VERSION)}"
        return refusal(context, "InvalidAction", message)
    body = {
        "GetCallerIdentityResult": {
            "Arn": root(context.account), "UserId": context.account, "Account": context.account,
        },
        "ResponseMetadata": {"RequestId": context.request_id},
    }  # fmt: skip
    return _xml(200, "GetCallerIdentityResponse", NAMESPACE, body, context)


def refusal(context: Context, code: str, message: str) -> Reply:
    """An error in the query protocol."""
    error = {"Type": "Sender", "Code": code, "Message": message}
    return _xml(400, "ErrorResponse", NAMESPACE, {"Error": error, "RequestId": context.request_id}, context)


def _xml(status: int, name: str, namespace: str, body: Mapping[str, Any], context: Context) -> Reply:
    element = ElementTree.Element(name, xmlns=namespace)
    _fill(element, body)
    headers = {"x-amzn-RequestId": context.request_id, "content-type": "text/xml"}
    return Reply(status, ElementTree.tostring(element, encoding="utf-8"), headers)


def _fill(element: ElementTree.Element, body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        child = ElementTree.SubElement(element, name)
        if isinstance(value, Mapping):
            _fill(child, value)
        else:
            child.text = str(value)
