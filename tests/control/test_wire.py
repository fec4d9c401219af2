"""AWS JSON 1.1 byte by byte: errors, headers, operations that are not built, bodies that are no requests."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from server.control.failures import code_of
from server.control.resources import SAGEMAKER
from server.control.scope import Scope, scope
from server.errors import Conflict, HearthError, InUse, LimitExceeded, NotFound, Throttled
from tests.control.test_models import refused


def post(address: str, target: str, body: bytes = b"{}", request_id: str = "") -> httpx.Response:
    sent = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1", "x-request-id": request_id}
    return httpx.post(address, content=body, headers={k: v for k, v in sent.items() if v}, trust_env=False)


def test_an_answer_names_its_request(address: str) -> None:
    reply = post(address, "SageMaker.ListModels", request_id="r-1")
    assert (reply.status_code, reply.json()) == (200, {"Models": []})
    assert reply.headers["x-amzn-requestid"] == "r-1"
    assert reply.headers["content-type"] == "application/x-amz-json-1.1"


def test_an_error_is_in_body_and_header(address: str) -> None:
    reply = post(address, "SageMaker.DescribeModel")
    assert reply.status_code == 400
    assert reply.headers["x-amzn-errortype"] == reply.json()["__type"] == "ValidationException"
    assert reply.json()["message"] == (
        "1 validation error detected: Value null at 'modelName' failed to satisfy constraint: Member must not be null"
    )
    assert reply.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[1]", "JSON object"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"MaxResults": NaN}', "not JSON"),
        (b'{"a":' * 100000, "nested deeper"),
        (b'{"MaxResults": "5"}', "STRING_VALUE"),
    ],
)
def test_what_is_no_request_is_refused(address: str, body: bytes, words: str) -> None:
    reply = post(address, "SageMaker.ListModels", body)
    assert (reply.status_code, reply.json()["__type"]) == (400, "SerializationException")
    assert words in reply.json()["message"]


def test_a_body_without_end_is_cut_off(address: str) -> None:
    reply = post(address, "SageMaker.ListModels", b" " * (5 * 1024 * 1024))
    assert (reply.status_code, reply.json()["__type"]) == (413, "RequestEntityTooLargeException")


@pytest.mark.parametrize("target", ["SageMaker.Nothing", "Other.ListModels", "ListModels", "SageMaker."])
def test_an_unknown_target_is_refused(address: str, target: str) -> None:
    reply = post(address, target)
    assert (reply.status_code, reply.json()["__type"]) == (400, "UnknownOperationException")


def test_a_post_that_is_no_aws_call_is_told_so(address: str) -> None:
    reply = post(address, "")
    assert reply.status_code == 400
    assert "X-Amz-Target" in reply.json()["message"]


def test_an_operation_that_is_not_built_says_so(sagemaker: Any, unchecked: Any) -> None:
    code, message = refused(sagemaker.list_training_jobs)
    assert (code, "ListTrainingJobs" in message) == ("UnknownOperationException", True)
    assert refused(unchecked.list_training_jobs, MaxResults=0)[0] == "ValidationException"


def test_constraints_reach_the_client_by_name(unchecked: Any) -> None:
    code, message = refused(unchecked.create_model, ModelName="a_b")
    assert code == "ValidationException"
    assert message == (
        "1 validation error detected: Value 'a_b' at 'modelName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9]([\\-a-zA-Z0-9]*[a-zA-Z0-9])?"
    )


def test_an_answer_to_nothing_is_empty(sagemaker: Any, address: str) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    reply = post(address, "SageMaker.DeleteModelPackageGroup", json.dumps({"ModelPackageGroupName": "g"}).encode())
    assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize("name", sorted(SAGEMAKER.operations))
def test_every_error_is_one_that_its_operation_may_give(name: str) -> None:
    common = {"ValidationException", "ThrottlingException", "InternalFailure"}
    for error in (NotFound("x"), Conflict("x"), InUse("x"), LimitExceeded("x"), Throttled("x"), HearthError("x")):
        assert code_of(error, SAGEMAKER, name) in common | set(SAGEMAKER.errors(name))


def test_where_the_model_lists_an_error_it_is_given() -> None:
    assert code_of(NotFound("x"), SAGEMAKER, "DescribeTrainingJob") == "ResourceNotFound"
    assert code_of(NotFound("x"), SAGEMAKER, "DescribeEndpoint") == "ValidationException"
    assert code_of(Conflict("x"), SAGEMAKER, "CreateTrainingJob") == "ResourceInUse"
    assert code_of(Conflict("x"), SAGEMAKER, "CreateEndpoint") == "ValidationException"
    assert code_of(InUse("x"), SAGEMAKER, "DeleteModelPackageGroup") == "ConflictException"
    assert code_of(LimitExceeded("x"), SAGEMAKER, "CreateModel") == "ResourceLimitExceeded"


def test_the_scope_of_a_signature() -> None:
    signed = "AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    assert scope({"authorization": signed}, {}) == Scope("eu-west-1", "s3", "AK")
    assert scope({}, {"X-Amz-Credential": "AK/20260101/eu-west-1/sagemaker/aws4_request"}) == Scope(
        "eu-west-1", "sagemaker", "AK"
    )
    for unsigned in ("Bearer AK/20260101/eu-west-1/s3/aws4_request", "AWS4-HMAC-SHA256 Credential=AK/x", ""):
        assert scope({"authorization": unsigned}, {}) is None


def test_what_is_built_is_what_the_issue_asks_for() -> None:
    for resource in ("Model", "EndpointConfig", "Endpoint", "ModelPackageGroup", "ModelPackage", "ModelCard"):
        every = {f"Create{resource}", f"Describe{resource}", f"List{resource}s", f"Delete{resource}"}
        assert every <= set(SAGEMAKER.built)
