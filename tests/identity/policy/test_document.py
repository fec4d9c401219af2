"""Documents that IAM refuses, with the words it refuses them in, and documents that it takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.identity.policy.document import Use, read, size
from server.identity.policy.malformed import LEGACY, SYNTAX, MalformedPolicy, PolicyTooLarge

S3 = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b"}
ASSUME = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}}


def document(statement: Any, **top: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statement, **top}


def changed(**fields: Any) -> dict[str, Any]:
    """The plain statement with other fields; None takes one away."""
    return {name: value for name, value in {**S3, **fields}.items() if value is not None}


REFUSED: list[tuple[Any, str]] = [
    ("no JSON", SYNTAX),
    ("null", SYNTAX),
    ("[]", SYNTAX),
    ({"Version": "2012-10-17"}, SYNTAX),
    (document([]), SYNTAX),
    (document(["text"]), SYNTAX),
    (document(S3, Version="2013-10-17"), SYNTAX),
    (document(S3, Version=2012), SYNTAX),
    (document(S3, Extra="field"), SYNTAX),
    (document(S3, Id=["x"]), SYNTAX),
    (document(changed(Extra="field")), SYNTAX),
    (document(changed(Sid={})), SYNTAX),
    (document(changed(Effect="perhaps")), SYNTAX),
    (document(changed(Effect=None)), SYNTAX),
    (document(changed(Action={})), SYNTAX),
    (document(changed(Action=[[]])), SYNTAX),
    (document(changed(NotAction="s3:x")), SYNTAX),
    (document(changed(Resource={"a": "b"})), SYNTAX),
    (document(changed(Resource=["x", {}])), SYNTAX),
    (document(changed(NotResource="*")), SYNTAX),
    (document(changed(Condition=[])), SYNTAX),
    (document(changed(Condition="a")), SYNTAX),
    (document(changed(Condition={"a": "b"})), SYNTAX),
    (document(changed(Condition={"StringEqual": {"a": "1"}})), SYNTAX),
    (document(changed(Condition={"StringEquals": {"a": {}}})), SYNTAX),
    (document(changed(Condition={"ForAnyValue::StringEqualsIfExists": {"a": "b"}})), SYNTAX),
    (document(changed(Condition={"ForSomeValues:StringEquals": {"a": "b"}})), SYNTAX),
    (document(changed(Condition={"NullIfExists": {"a": "true"}})), SYNTAX),
    (document(changed(Condition={"Null": {"a": "maybe"}})), SYNTAX),
    ('{"Version":"2012-10-17","Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}', SYNTAX),
    ("[" * 10_000, SYNTAX),
    (document(changed(Effect="denY")), LEGACY),
    (document(changed(Resource="arn:aws:s3::b")), LEGACY),
    (document(changed(Resource="arn:aws::::b")), LEGACY),
    (document(changed(Resource="arn:aws::x")), LEGACY),
    (document(changed(Resource=None, NotResource="arn:aws:s3::b")), LEGACY),
    (document(changed(Condition={"DateGreaterThan": {"a": "soon"}})), LEGACY),
    (document(changed(Condition={"DateLessThanEquals": {"a": "234-13"}})), LEGACY),
    (document(changed(Condition={"DateLessThan": {"a": "9223372036854775808"}})), LEGACY),
    (document(changed(Condition={"NumericEquals": {"a": "ten"}})), LEGACY),
    (document(changed(Condition={"IpAddress": {"a": "10.0.0.0/40"}})), LEGACY),
    (document({"Effect": "Allow", "Resource": "arn:aws:s3::b"}), LEGACY),
    (document(changed(Action=None)), "Policy statement must contain actions."),
    (document(changed(Action=[])), "Policy statement must contain actions."),
    (document([{"Effect": "Deny"}, S3]), "Policy statement must contain actions."),
    (document(changed(Resource=None)), "Policy statement must contain resources."),
    (document(changed(Resource=[])), "Policy statement must contain resources."),
    (
        document(changed(Action="invalid", Resource=None)),
        "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
    ),
    (document(changed(Action="")), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
    (document(changed(Action="s3:List:Bucket")), "Actions/Condition can contain only one colon."),
    (document(changed(Action="a a:ListBucket")), "Vendor a a is not valid"),
    (document(changed(Action="s*:ListBucket")), "Vendor s* is not valid"),
    (document(changed(Resource="invalid resource")), 'Resource invalid resource must be in ARN format or "*".'),
    (document(changed(Resource="")), 'Resource  must be in ARN format or "*".'),
    (document(changed(Action="s:3:x", Resource="sdf")), 'Resource sdf must be in ARN format or "*".'),
    (document(changed(Resource="a:b:c")), 'Partition "b" is not valid for resource "arn:b:c:*:*:*".'),
    (
        document(changed(Resource="aws:s3:::example_bucket")),
        'Partition "s3" is not valid for resource "arn:s3:::example_bucket:*".',
    ),
    (document(changed(Resource="a:b:c:d:e:f:g:h")), 'Partition "b" is not valid for resource "arn:b:c:d:e:f:g:h".'),
    (
        document(changed(Resource="arn:aws")),
        "Resource vendor must be fully qualified and cannot contain regexes.",
    ),
    (
        document(changed(Resource="arn:aws:iam:us-east-1::user/x")),
        "IAM resource arn:aws:iam:us-east-1::user/x cannot contain region information.",
    ),
    (
        document(changed(Resource="arn:aws:iam:::example")),
        'IAM resource path must either be "*" or start with user/, federated-user/, role/, group/, instance-profile/,'
        " mfa/, server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/.",
    ),
    (
        document(changed(Resource="arn:aws:s3:us-east-1::b")),
        "Resource arn:aws:s3:us-east-1::b can not contain region information.",
    ),
    (document([{**S3, "Sid": "a"}, {**S3, "Sid": "a"}]), "Statement IDs (SID) in a single policy must be unique."),
    (document(changed(Principal="*")), "Policy document should not specify a principal."),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_refused(given: Any, message: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        read(given, Use.INLINE)

    assert refused.value.message == message


@pytest.mark.parametrize("version", [{}, {"Version": "2008-10-17"}])
def test_a_managed_policy_is_of_the_current_version(version: dict[str, str]) -> None:
    given = {**version, "Statement": S3}

    assert not read(given, Use.INLINE).variables
    with pytest.raises(MalformedPolicy, match=r"Policy document must be version 2012-10-17 or greater\."):
        read(given, Use.MANAGED)


TRUST_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({**ASSUME, "Resource": "*"}, "Has prohibited field Resource"),
    ({**ASSUME, "Action": "s3:GetObject"}, "AssumeRole policy may only specify STS AssumeRole actions."),
    ({"Effect": "Allow", "Action": "sts:AssumeRole"}, "Missing required field Principal"),
    (
        {**ASSUME, "Principal": {"AWS": "arn:aws:iam::1:role/x"}},
        'Invalid principal in policy: "AWS":"arn:aws:iam::1:role/x"',
    ),
    ({**ASSUME, "Principal": {"Service": "sagemaker"}}, 'Invalid principal in policy: "Service":"sagemaker"'),
    (
        {**ASSUME, "Principal": {"AWS": "arn:aws:iam::111122223333:role/*"}},
        'Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:role/*"',
    ),
    ({**ASSUME, "Principal": {"Everyone": "*"}}, SYNTAX),
    ({**ASSUME, "Principal": {}}, SYNTAX),
    ({**ASSUME, "Principal": {"AWS": [7]}}, SYNTAX),
]


@pytest.mark.parametrize(("statement", "message"), TRUST_REFUSED)
def test_trust_policies_refused(statement: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        read(document(statement), Use.TRUST)

    assert refused.value.message == message


TAKEN = [
    S3,
    [S3],
    changed(Action="*", Resource=["arn:aws:s3:::b", "*"]),
    changed(Resource="arn:aws:iam::111122223333:user/x"),
    changed(Resource="arn:aws:cloudwatch:us-east-1::x"),
    changed(Resource="arn:aws:fdsasf"),
    changed(Condition={}),
    changed(Condition={"a": {}}),
    changed(Condition={"DateGreaterThan": {"a": []}}),
    changed(Condition={"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"s3:max-keys": 10}}),
    changed(Sid="Read0nly"),
    changed(Action=None, NotAction="iam:*"),
]


@pytest.mark.parametrize("statement", TAKEN)
def test_taken(statement: Any) -> None:
    assert len(read(json.dumps(document(statement)), Use.MANAGED).entries) == 1


@pytest.mark.parametrize("principal", ["*", {"AWS": ["111122223333", "AIDAEXAMPLE"]}, {"Federated": "accounts.x.com"}])
def test_trust_policies_taken(principal: Any) -> None:
    assert read(document({**ASSUME, "Principal": principal}), Use.TRUST).entries[0].principals is not None


@pytest.mark.parametrize(("use", "limit"), [(Use.MANAGED, 6_144), (Use.INLINE, 10_240), (Use.SESSION, 2_048)])
def test_white_space_does_not_count(use: Use, limit: int) -> None:
    empty = size(json.dumps(document(changed(Sid="x"))))
    fits = json.dumps(document(changed(Sid="x" * (limit - empty + 1))), indent=8)
    over = json.dumps(document(changed(Sid="x" * (limit - empty + 2))))

    assert size(fits) == limit < len(fits)
    read(fits, use)
    with pytest.raises(PolicyTooLarge, match=f"Cannot exceed quota for PolicySize: {limit}"):
        read(over, use)


@pytest.mark.timeout(60)
def test_hostile_documents_are_read_in_no_time() -> None:
    texts = [
        '{"Statement":' * 2000,
        json.dumps(document(changed(Resource="arn:aws:s3:::" + "*a" * 4000))),
        json.dumps(document(changed(Resource="arn:aws:s3:::" + "${" * 4000))),
        json.dumps(document(changed(Resource="arn:aws:s3:::" + "${a,'" * 1500))),
    ]
    for text in texts:
        try:
            read(text, Use.INLINE)
        except MalformedPolicy:
            continue
