"""What botocore's own serializers send is read as it was meant, and what we answer its parsers read back."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import cbor2
import httpx
import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from server.control import shapes
from server.control.failures import failure
from server.control.projection import answer
from server.control.protocols.cbor import CBOR
from server.control.protocols.json import JSON
from server.control.protocols.query import QUERY, form
from server.control.protocols.wire import Wire
from server.control.service import Service
from server.control.sts import STS
from server.errors import BadRequest, Conflict, Forbidden, HearthError, NotFound, Refusal, Unreadable

IAM, CLOUDWATCH, KMS = Service("iam"), Service("cloudwatch"), Service("kms")
WIRES: dict[str, Wire] = {"query": QUERY, "json": JSON, "smithy-rpc-v2-cbor": CBOR}
PARSERS = (QUERY, IAM, "CreateRole"), (JSON, KMS, "Encrypt"), (CBOR, CLOUDWATCH, "PutMetricData")
NOON = datetime(2026, 1, 2, 12, 0, 0, 250000, UTC)
QUERIES = {
    "MetricDataQueries": [
        {"Id": "a", "ReturnData": True, "MetricStat": {
            "Metric": {"Namespace": "AWS/SageMaker", "Dimensions": [{"Name": "EndpointName", "Value": "x y&é"}]},
            "Period": 60, "Stat": "p99"}},
        {"Id": "b", "Expression": "a*2"},
    ],
    "StartTime": NOON, "EndTime": NOON,
}  # fmt: skip
DATUM = {"Namespace": "mine", "MetricData": [{"MetricName": "m", "Values": [1.5, -2.0], "Timestamp": NOON}]}


def sent(service: Service, operation: str, protocol: str, given: dict[str, Any]) -> bytes:
    """The body that botocore sends."""
    request = create_serializer(protocol, False).serialize_to_request(given, service.describe(operation))
    body = request["body"]
    if isinstance(body, dict):
        return str(httpx.QueryParams(body)).encode()
    return body if isinstance(body, bytes) else str(body).encode()


def seconds(value: Any) -> Any:
    """A document as operations get it."""
    if isinstance(value, dict):
        return {name: seconds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [seconds(item) for item in value]
    return value.timestamp() if isinstance(value, datetime) else value


@pytest.mark.parametrize(
    ("service", "operation", "protocol", "document"),
    [
        *((CLOUDWATCH, "GetMetricData", protocol, QUERIES) for protocol in WIRES),
        *((CLOUDWATCH, "PutMetricData", protocol, DATUM) for protocol in WIRES),
        (IAM, "CreateRole", "query", {"RoleName": "r", "AssumeRolePolicyDocument": "{}", "MaxSessionDuration": 3600,
                                      "Tags": [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "1"}]}),
        (IAM, "SimulatePrincipalPolicy", "query", {"PolicySourceArn": "arn:aws:iam::123456789012:role/r",
                                                   "ActionNames": [f"s3:A{n}" for n in range(12)]}),
        (KMS, "Encrypt", "json", {"KeyId": "k", "Plaintext": b"\x00\xff", "EncryptionContext": {"a": "b"}}),
    ],
)  # fmt: skip
def test_a_request_is_read_as_botocore_meant_it(
    service: Service, operation: str, protocol: str, document: dict[str, Any]
) -> None:
    body = sent(service, operation, protocol, document)
    assert shapes.read(service.input(operation), WIRES[protocol].parse(service, operation, body)) == seconds(document)


@pytest.mark.parametrize(
    ("service", "operation", "protocol", "document"),
    [
        *((CLOUDWATCH, "GetMetricData", protocol, {"MetricDataResults": [
            {"Id": "a", "Timestamps": [NOON], "Values": [0.5], "StatusCode": "Complete"}], "NextToken": "<&>"})
          for protocol in WIRES),
        (IAM, "ListUsers", "query", {"IsTruncated": False, "Users": [
            {"UserName": "é", "Path": "/", "UserId": "A", "Arn": "arn", "CreateDate": NOON}]}),
        (IAM, "ListUsers", "query", {"IsTruncated": False, "Users": []}),
        (STS, "AssumeRole", "query", {"PackedPolicySize": 6, "Credentials": {
            "AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": NOON}}),
        (KMS, "Encrypt", "json", {"KeyId": "k", "CiphertextBlob": b"\x00\xfe"}),
    ],
)  # fmt: skip
def test_botocore_reads_the_answer_back(
    service: Service, operation: str, protocol: str, document: dict[str, Any]
) -> None:
    projected = answer(service.output(operation), document)
    reply = WIRES[protocol].answer(service, operation, projected, "r-1")
    headers = {name.lower(): value for name, value in reply.headers.items()}
    parsed = create_parser(protocol).parse(
        {"body": reply.body, "headers": headers, "status_code": reply.status}, service.output(operation)
    )
    meta = parsed.pop("ResponseMetadata")
    assert (parsed, meta["RequestId"]) == (document, "r-1")


@pytest.mark.parametrize(
    ("service", "operation", "protocol", "error", "code", "status"),
    [
        (IAM, "GetRole", "query", NotFound("x"), "NoSuchEntity", 404),
        (IAM, "CreateRole", "query", Conflict("x"), "EntityAlreadyExists", 409),
        (IAM, "CreateRole", "query", Refusal("MalformedPolicyDocumentException", "x"), "MalformedPolicyDocument", 400),
        (STS, "AssumeRole", "query", Forbidden("x"), "AccessDenied", 403),
        (KMS, "Decrypt", "json", NotFound("x"), "NotFoundException", 400),
        (KMS, "Decrypt", "json", Forbidden("x"), "AccessDeniedException", 400),
        (KMS, "Decrypt", "json", HearthError("x"), "InternalFailure", 500),
        (CLOUDWATCH, "GetDashboard", "smithy-rpc-v2-cbor", Unreadable("x"), "MalformedInput", 400),
    ],
)
def test_botocore_reads_the_error_back(
    service: Service, operation: str, protocol: str, error: HearthError, code: str, status: int
) -> None:
    reply = WIRES[protocol].failure(service, failure(error, service, operation), "r-1")
    headers = {name.lower(): value for name, value in reply.headers.items()}
    parsed = create_parser(protocol).parse(
        {"body": reply.body, "headers": headers, "status_code": reply.status}, service.output(operation)
    )
    assert (parsed["Error"]["Code"].rpartition("#")[2], parsed["Error"]["Message"], reply.status) == (code, "x", status)


@pytest.mark.parametrize(
    "body",
    [b"MaxResults=a", b"ActionNames=1", b"ActionNames.x.1=a", b"ActionNames.member.a=1", b"Context.member.1=a",
     b"\xff", b"a.b=1&a=2", b"a=1&a.b=2", b"&".join(b"a%d=1" % n for n in range(10_002)),
     b".".join([b"a"] * 40) + b"=1",
     b"ContextEntries.member.1=text"],
)  # fmt: skip
def test_a_form_that_is_no_request_is_refused(body: bytes) -> None:
    try:
        found = QUERY.parse(IAM, "SimulatePrincipalPolicy", body)
    except Unreadable:
        return
    assert set(found) <= IAM.members("SimulatePrincipalPolicy"), "a name that the input does not have"


@given(st.binary(max_size=200))
def test_no_bytes_break_a_parser(body: bytes) -> None:
    for wire, service, operation in PARSERS:
        with contextlib.suppress(BadRequest):
            shapes.read(service.input(operation), wire.parse(service, operation, body))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))  # fmt: skip
def test_no_cbor_value_breaks_the_shape_check(value: Any) -> None:
    with contextlib.suppress(BadRequest):
        document = CBOR.parse(CLOUDWATCH, "PutMetricData", cbor2.dumps({"Namespace": value, "MetricData": value}))
        shapes.read(CLOUDWATCH.input("PutMetricData"), document)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_a_form_keeps_its_fields(fields: dict[str, str]) -> None:
    assert form(str(httpx.QueryParams(fields)).encode()) == fields


def test_a_blob_travels_in_base64() -> None:
    reply = JSON.answer(KMS, "Encrypt", {"CiphertextBlob": b"\x00\xff"}, "r")
    assert base64.b64decode(json.loads(reply.body)["CiphertextBlob"]) == b"\x00\xff"
