"""No secret that is given where secrets go is ever in the log's bytes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.audit.event import MAX_BYTES, Call, canonical, record
from server.audit.redaction import HIDDEN, message_without, redact, secret_name
from tests.audit.conftest import Audited
from tests.audit.writer import made

SECRETS = st.text(st.characters(codec="utf-8"), min_size=9, max_size=40).map(
    lambda text: f"5ecre7-{text}"
)
MARK = "5ecre7-"


def shape(service: str, name: str) -> Any:
    return ServiceModel(Loader().load_service_model(service, "service-2"), service).shape_for(name)


@pytest.mark.parametrize(
    ("service", "name"),
    [("sagemaker", "CreateModelInput"), ("sagemaker", "CreateTrainingJobRequest"),
     ("sagemaker", "CreateModelCardRequest"), ("sagemaker", "CreateWorkforceRequest"),
     ("kms", "DecryptResponse"), ("kms", "EncryptRequest"),
     ("kms", "GenerateDataKeyResponse"), ("iam", "CreateAccessKeyResponse"), ("iam", "ChangePasswordRequest"),
     ("iam", "UploadServerCertificateRequest"), ("sts", "AssumeRoleResponse"), ("sts", "AssumeRoleWithSAMLRequest"),
     ("s3", "PutObjectRequest")],
)  # fmt: skip
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_secrets_stay_out_of_shapes(service: str, name: str, data: st.DataObject) -> None:
    value = data.draw(_filled(shape(service, name), "", 0))
    kept = canonical(redact(value, shape(service, name)))
    assert MARK not in kept


def _filled(of: Any, name: str, depth: int, secret: bool = False) -> st.SearchStrategy[Any]:
    """A value of a shape whose sensitive places hold secrets and whose others hold something else."""
    hot = secret or bool(of.metadata.get("sensitive")) or secret_name(name)
    if of.type_name == "structure":
        if depth > 4:
            return st.just({})
        parts = {member: _filled(inner, member, depth + 1, hot) for member, inner in of.members.items()}
        return st.fixed_dictionaries({}, optional=parts)
    if of.type_name == "list":
        return st.lists(_filled(of.member, name, depth + 1, hot), max_size=2)
    if of.type_name == "map":
        return st.dictionaries(st.sampled_from(["A", "B"]), _filled(of.value, name, depth + 1, hot), max_size=2)
    if of.type_name == "blob":
        return SECRETS.map(str.encode)
    if of.type_name == "string":
        return SECRETS if hot else st.just("plain")
    if of.type_name == "boolean":
        return st.booleans()
    return st.just(7)


def test_secrets_stay_out_of_the_database(audited: Audited, tmp_path: Path) -> None:
    """Through real calls, good ones and ones that fail at each stage with messages that repeat values."""
    sagemaker = audited.client("sagemaker")
    role = "arn:aws:iam::123456789012:role/hearth"

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(secret=SECRETS, key=st.sampled_from(["TOKEN", "HF_TOKEN", "MODE", "bad key", "1"]))
    def call(secret: str, key: str) -> None:
        container = {"Image": "hearth", "ModelDataUrl": "s3://b/m.tar.gz", "Environment": {key: secret}}
        for given_ in (container, {**container, "Image": "unknown-image:nothing"}):
            with contextlib.suppress(ClientError, ParamValidationError):
                sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=given_)
        with contextlib.suppress(ClientError, ParamValidationError):
            sagemaker.create_model_card(ModelCardName="card", Content=secret, ModelCardStatus="Draft")

    call()
    audited.settle()
    audited.engine.dispose()
    written = b"".join(file.read_bytes() for file in tmp_path.glob("hearth.db*"))
    assert b"CreateModel" in written
    with audited.engine.connect() as connection:
        tables = ("audit_events", "audit_resources")
        rows = [row for table in tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    assert len(rows) > 40
    assert MARK not in repr(rows)


def test_names_of_secrets() -> None:
    for name in ("Password", "SecretAccessKey", "SessionToken", "api_key", "HF_TOKEN", "Environment", "env",
                 "ClientSecret", "PrivateKey"):  # fmt: skip
        assert secret_name(name), name
    for name in ("NextToken", "ClientRequestToken", "SecretArn", "ClientToken", "ModelName", "max_tokens", "KeyId",
                 "EnvironmentName"):  # fmt: skip
        assert not secret_name(name), name


def test_what_else_is_hidden_or_cut() -> None:
    assert redact([{"Key": "db_password", "Value": "x"}]) == [{"Key": "db_password", "Value": HIDDEN}]
    assert redact({"u": "https://h/x?X-Amz-Signature=abc"}) == {"u": HIDDEN}
    assert redact({"u": "https://user:pass@h/x"}) == {"u": HIDDEN}
    assert redact({"long": "x" * 5000})["long"].endswith("(5000 characters)")
    assert len(redact({"many": list(range(500))})["many"]) == 101
    assert redact({"b": b"bytes"}) == {"b": HIDDEN}
    deep: Any = {}
    for _ in range(500):
        deep = {"in": deep}
    assert len(canonical(redact(deep))) < 1000


def test_messages() -> None:
    request = {"Environment": {"A": 'say "no" to this'}, "ModelName": "plain-name"}
    kept = redact(request)
    assert message_without("Model plain-name exists", request, kept) == "Model plain-name exists"
    for message in ('Value \'{"A": "say \\"no\\" to...', 'it was say "no" to this'):
        assert "left out" in message_without(message, request, kept)


def test_an_event_is_bounded() -> None:
    call = Call("sagemaker.amazonaws.com", "X", "123456789012", "r", read_only=False)
    large = {str(number): "x" * 2000 for number in range(100)}
    event = record(replace(call, parameters=large, answer={"a": large, "b": large}))
    assert len(canonical(event)) <= MAX_BYTES
    assert event["addendum"]["reason"] == "EVENT_TOO_LARGE"
    assert event["responseElements"] is None
    assert event["requestParameters"] == large
    assert len(canonical(made())) < 1500
