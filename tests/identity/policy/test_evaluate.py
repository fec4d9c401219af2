"""What must hold of every policy, and what a decision costs."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.identity.policy.document import Use
from server.identity.policy.evaluate import Access, Decisions, evaluate
from server.identity.policy.policy import Policy, compile_policy
from server.identity.policy.refusals import refusal

ACCOUNT = "111122223333"
ANA = f"arn:aws:iam::{ACCOUNT}:user/ana"
ACTIONS = ["s3:GetObject", "s3:PutObject", "sagemaker:InvokeEndpoint", "iam:PassRole"]
RESOURCES = ["*", "arn:aws:s3:::b/k", "arn:aws:s3:::c/${aws:username}", "arn:aws:sagemaker:us-east-1:1:endpoint/e"]
KEYS = ["aws:username", "aws:SourceIp", "n", "aws:TagKeys"]
OPERATORS = [
    "StringEquals", "StringNotEquals", "StringLikeIfExists", "NumericLessThan", "NumericNotEquals", "IpAddress",
    "NotIpAddress", "ForAllValues:StringLike", "ForAnyValue:StringNotEquals", "ArnLike", "Bool", "Null",
]  # fmt: skip
FITTING = {"N": ["1", "20"], "I": ["10.0.0.0/8", "192.0.2.1"], "B": ["true", "false"], "Null": ["true", "false"]}


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    operator = draw(st.sampled_from(OPERATORS))
    values = FITTING["Null"] if operator == "Null" else ["ana", "a*", "${aws:username}", "1"]
    if operator.startswith("Numeric"):
        values = FITTING["N"]
    if "IpAddress" in operator:
        values = FITTING["I"]
    return {operator: {draw(st.sampled_from(KEYS)): draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))}}


@st.composite
def statements(draw: st.DrawFn, effect: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Effect": effect,
        draw(st.sampled_from(["Action", "NotAction"])): draw(st.sampled_from([*ACTIONS, "s3:*", "*", "*:?etObject"])),
        draw(st.sampled_from(["Resource", "NotResource"])): draw(
            st.lists(st.sampled_from([*RESOURCES, "arn:aws:s3:::*", "arn:aws:sagemaker:*:*:endpoint/?"]), min_size=1)
        ),
    }
    if draw(st.booleans()):
        found["Condition"] = draw(conditions())
    return found


either = st.sampled_from(["Allow", "Deny"]).flatmap(statements)
accesses = st.builds(
    Access,
    st.just(ANA),
    st.just(ACCOUNT),
    st.sampled_from(ACTIONS),
    st.sampled_from([*RESOURCES, "arn:aws:s3:::c/ana"]),
    st.dictionaries(
        st.sampled_from(KEYS),
        st.lists(st.sampled_from(["ana", "1", "20", "10.1.2.3", "true"]), max_size=2).map(tuple),
    ),
)
RANK = {"explicitDeny": 0, "implicitDeny": 1, "allowed": 2}


def policy(given: list[dict[str, Any]]) -> list[Policy]:
    return [compile_policy({"Version": "2012-10-17", "Statement": given}, use=Use.AWS)] if given else []


@settings(max_examples=100)
@given(st.lists(either, max_size=4), statements("Deny"), accesses)
def test_a_deny_more_never_allows_more(given: list[dict[str, Any]], deny: dict[str, Any], access: Access) -> None:
    before, after = evaluate(access, policy(given)), evaluate(access, policy([*given, deny]))

    assert RANK[after.outcome] <= RANK[before.outcome]


@settings(max_examples=100)
@given(st.lists(either, max_size=4), statements("Allow"), accesses)
def test_an_allow_more_never_allows_less(given: list[dict[str, Any]], allow: dict[str, Any], access: Access) -> None:
    before, after = evaluate(access, policy(given)), evaluate(access, policy([*given, allow]))

    assert RANK[after.outcome] >= RANK[before.outcome]


@settings(max_examples=100)
@given(st.lists(either, max_size=4), st.lists(either, max_size=3), st.lists(either, max_size=3), accesses)
def test_a_boundary_and_a_session_never_allow_more(
    given: list[dict[str, Any]], boundary: list[dict[str, Any]], session: list[dict[str, Any]], access: Access
) -> None:
    free = evaluate(access, policy(given))
    bounded = evaluate(
        access, policy(given), boundary=next(iter(policy(boundary)), None), session_policies=policy(session)
    )

    assert free.allowed or not bounded.allowed


@settings(max_examples=100)
@given(st.permutations(list(range(4))), st.lists(either, min_size=4, max_size=4), accesses)
def test_the_order_of_statements_says_nothing(order: list[int], given: list[dict[str, Any]], access: Access) -> None:
    turned = [given[i] for i in order]

    assert evaluate(access, policy(given)).outcome == evaluate(access, policy(turned)).outcome


@settings(max_examples=100)
@given(st.lists(either, max_size=4), st.lists(accesses, min_size=2, max_size=8))
def test_kept_decisions_never_differ(given: list[dict[str, Any]], asked: list[Access]) -> None:
    kept = Decisions(most=3)

    for access in [*asked, *asked]:
        assert kept.decide("v1", access, policy(given)).outcome == evaluate(access, policy(given)).outcome


def test_a_decision_that_asked_the_context_is_not_kept() -> None:
    tls = policy([{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"tls": "true"}}}])
    kept = Decisions()

    assert kept.decide(1, Access(ANA, ACCOUNT, "a:B", "*", {"tls": ("true",)}), tls).allowed
    assert not kept.decide(1, Access(ANA, ACCOUNT, "a:B", "*", {"tls": ("false",)}), tls).allowed


def test_another_version_is_decided_anew() -> None:
    everything = policy([{"Effect": "Allow", "Action": "*", "Resource": "*"}])
    kept, access = Decisions(), Access(ANA, ACCOUNT, "a:B", "*")

    assert kept.decide(1, access, everything).allowed
    assert kept.decide(1, access, []).allowed
    assert not kept.decide(2, access, []).allowed


def test_matched_statements_are_told() -> None:
    [given] = policy([
        {"Sid": "One", "Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {"Sid": "Two", "Effect": "Deny", "Action": "s3:Put*", "Resource": "*"},
    ])  # fmt: skip

    read = evaluate(Access(ANA, ACCOUNT, "s3:GetObject", "arn:aws:s3:::b/k"), [given])
    write = evaluate(Access(ANA, ACCOUNT, "s3:PutObject", "arn:aws:s3:::b/k"), [given])
    assert [(found.policy, found.sid, found.index) for found in read.matched] == [(given, "One", 0)]
    assert [(found.sid, found.index, found.side) for found in write.matched] == [("Two", 1, "identity")]


def test_refusals_are_worded_as_awss() -> None:
    denies = policy([{"Effect": "Deny", "Action": "*", "Resource": "*"}])
    access = Access(ANA, ACCOUNT, "s3:GetObject", "arn:aws:s3:::b/k")

    assert refusal(access, evaluate(access, [])) == (
        f"User: {ANA} is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::b/k"
        " because no identity-based policy allows the s3:GetObject action"
    )
    assert refusal(access, evaluate(access, denies)).endswith("with an explicit deny in an identity-based policy")
    assert refusal(access, evaluate(access, denies, session_policies=denies)).count("explicit deny") == 1


TYPICAL: list[dict[str, Any]] = [
    {"Effect": "Allow", "Action": ["sagemaker:Describe*", "sagemaker:List*"], "Resource": "*"},
    {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint*", "Resource": "arn:aws:sagemaker:*:*:endpoint/p-*"},
    {"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/${aws:username}/*"]},
    {
        "Effect": "Allow",
        "Action": "iam:PassRole",
        "Resource": "*",
        "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    },
    {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
]


def test_a_typical_policy_decides_a_typical_request() -> None:
    given = policy(TYPICAL)
    context = {"aws:username": ("ana",), "aws:SecureTransport": ("true",), "aws:SourceIp": ("10.1.2.3",)}
    resource = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/p-1"
    assert evaluate(Access(ANA, ACCOUNT, "sagemaker:InvokeEndpoint", resource, context), given).allowed
