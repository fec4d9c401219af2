"""IAM through boto3: users, groups, roles, policies, keys; each operation's answer, its errors and its pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.control.conftest import ACCOUNT, client

TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    ],
})  # fmt: skip
MANAGED = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


def policy(action: str = "sagemaker:*", effect: str = "Allow", resource: str = "*") -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture(scope="session")
def iam_client(listening: tuple[str, Any]) -> Iterator[Any]:
    made = client(listening[0], "iam")
    yield made
    made.close()


@pytest.fixture
def iam(iam_client: Any, address: str) -> Any:
    return iam_client


def failure(call: Any, **arguments: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def status_of(call: Any, **arguments: Any) -> tuple[str, int]:
    return failure(call, **arguments)[:2]


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    code, _, message = failure(call, **arguments)
    return code, message


# ── users ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_is_made_read_renamed_and_deleted(iam: Any) -> None:
    made = iam.create_user(UserName="Ana", Path="/team/", Tags=[{"Key": "k", "Value": "v"}])["User"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/Ana"
    assert (len(made["UserId"]), made["UserId"][:4]) == (21, "AIDA")
    read = iam.get_user(UserName="Ana")["User"]
    assert (read["UserId"], read["Tags"], read["Path"]) == (made["UserId"], [{"Key": "k", "Value": "v"}], "/team/")
    iam.update_user(UserName="Ana", NewUserName="Anna", NewPath="/")
    assert iam.get_user(UserName="Anna")["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/Anna"
    assert status_of(iam.get_user, UserName="Ana") == ("NoSuchEntity", 404)
    iam.delete_user(UserName="Anna")
    assert iam.list_users()["Users"] == []


def test_names_differ_by_more_than_case(iam: Any) -> None:
    iam.create_user(UserName="ana")
    assert status_of(iam.create_user, UserName="ANA") == ("EntityAlreadyExists", 409)
    assert refused(iam.create_user, UserName="ana")[1] == "User with name ana already exists."
    assert refused(iam.get_user, UserName="ANA") == ("NoSuchEntity", "The user with name ANA cannot be found.")
    iam.create_user(UserName="bo")
    assert status_of(iam.update_user, UserName="bo", NewUserName="Ana") == ("EntityAlreadyExists", 409)


def test_the_caller_is_the_root_where_nobody_is_asked(iam: Any) -> None:
    assert iam.get_user()["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"


def test_users_come_in_pages_by_path(iam: Any) -> None:
    for number in range(7):
        iam.create_user(UserName=f"u{number}", Path="/a/" if number % 2 else "/")
    pages = list(iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 3}))
    assert [len(page["Users"]) for page in pages] == [3, 3, 1]
    assert [user["UserName"] for page in pages for user in page["Users"]] == [f"u{n}" for n in range(7)]
    assert [user["UserName"] for user in iam.list_users(PathPrefix="/a/")["Users"]] == ["u1", "u3", "u5"]
    assert refused(iam.list_users, Marker="none of ours")[0] == "ValidationError"


def test_a_user_that_has_something_is_not_deleted(iam: Any) -> None:
    iam.create_user(UserName="u")
    iam.create_group(GroupName="g")
    key = iam.create_access_key(UserName="u")["AccessKey"]["AccessKeyId"]
    iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=policy())
    iam.attach_user_policy(UserName="u", PolicyArn=MANAGED)
    iam.add_user_to_group(GroupName="g", UserName="u")
    undoing: tuple[Callable[[], Any], ...] = (
        lambda: iam.delete_access_key(UserName="u", AccessKeyId=key),
        lambda: iam.detach_user_policy(UserName="u", PolicyArn=MANAGED),
        lambda: iam.delete_user_policy(UserName="u", PolicyName="p"),
        lambda: iam.remove_user_from_group(GroupName="g", UserName="u"),
    )
    for undo in undoing:
        assert status_of(iam.delete_user, UserName="u") == ("DeleteConflict", 409)
        undo()
    iam.delete_user(UserName="u")


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_group_has_users_by_page(iam: Any) -> None:
    made = iam.create_group(GroupName="g", Path="/x/")["Group"]
    assert (made["Arn"], made["GroupId"][:4]) == (f"arn:aws:iam::{ACCOUNT}:group/x/g", "AGPA")
    for name in ("a", "b", "c"):
        iam.create_user(UserName=name)
        iam.add_user_to_group(GroupName="g", UserName=name)
    pages = iam.get_paginator("get_group").paginate(GroupName="g", PaginationConfig={"PageSize": 2})
    assert [[user["UserName"] for user in page["Users"]] for page in pages] == [["a", "b"], ["c"]]
    assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="b")["Groups"]] == ["g"]
    assert status_of(iam.delete_group, GroupName="g") == ("DeleteConflict", 409)
    iam.update_group(GroupName="g", NewGroupName="h")
    assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="b")["Groups"]] == ["h"]
    for name in ("a", "b", "c"):
        iam.remove_user_from_group(GroupName="h", UserName=name)
    iam.delete_group(GroupName="h")
    assert iam.list_groups()["Groups"] == []
    assert status_of(iam.add_user_to_group, GroupName="h", UserName="a") == ("NoSuchEntity", 404)


def test_a_user_is_in_ten_groups_at_most(iam: Any) -> None:
    iam.create_user(UserName="u")
    for number in range(11):
        iam.create_group(GroupName=f"g{number}")
    for number in range(10):
        iam.add_user_to_group(GroupName=f"g{number}", UserName="u")
    assert status_of(iam.add_user_to_group, GroupName="g10", UserName="u") == ("LimitExceeded", 409)


# ── roles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_role_that_nobody_made_is_not_there(iam: Any) -> None:
    assert status_of(iam.get_role, RoleName="hearth") == ("NoSuchEntity", 404)
    assert refused(iam.get_role, RoleName="hearth")[1] == "The role with name hearth cannot be found."


def test_a_role_is_made_read_changed_and_deleted(iam: Any) -> None:
    made = iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, Description="d", MaxSessionDuration=7200)
    assert made["Role"]["AssumeRolePolicyDocument"] == json.loads(TRUST)
    assert (made["Role"]["MaxSessionDuration"], made["Role"]["RoleId"][:4]) == (7200, "AROA")
    iam.update_role(RoleName="r", Description="e")
    iam.update_role_description(RoleName="r", Description="f")
    trust = json.loads(TRUST)
    trust["Statement"][0]["Principal"] = {"Service": "sagemaker.amazonaws.com"}
    iam.update_assume_role_policy(RoleName="r", PolicyDocument=json.dumps(trust))
    read = iam.get_role(RoleName="r")["Role"]
    assert (read["Description"], read["MaxSessionDuration"]) == ("f", 7200)
    assert read["AssumeRolePolicyDocument"] == trust
    assert [role["RoleName"] for role in iam.list_roles()["Roles"]] == ["r"]
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy())
    assert status_of(iam.delete_role, RoleName="r") == ("DeleteConflict", 409)
    iam.delete_role_policy(RoleName="r", PolicyName="p")
    iam.attach_role_policy(RoleName="r", PolicyArn=MANAGED)
    assert status_of(iam.delete_role, RoleName="r") == ("DeleteConflict", 409)
    iam.detach_role_policy(RoleName="r", PolicyArn=MANAGED)
    iam.delete_role(RoleName="r")
    assert status_of(iam.delete_role, RoleName="r") == ("NoSuchEntity", 404)


@pytest.mark.parametrize("document", ["{}", "none", policy(), '{"Version": "2012-10-17", "Statement": []}'])
def test_a_trust_policy_is_one(iam: Any, document: str) -> None:
    refusal = status_of(iam.create_role, RoleName="r", AssumeRolePolicyDocument=document)
    assert refusal == ("MalformedPolicyDocument", 400)
    assert iam.list_roles()["Roles"] == []


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["user", "group", "role"])
def test_inline_policies(iam: Any, kind: str) -> None:
    title, name = kind.title(), {f"{kind.title()}Name": "one"}
    trust = {"AssumeRolePolicyDocument": TRUST} if kind == "role" else {}
    getattr(iam, f"create_{kind}")(**name, **trust)
    put, get = getattr(iam, f"put_{kind}_policy"), getattr(iam, f"get_{kind}_policy")
    for number in range(3):
        put(**name, PolicyName=f"p{number}", PolicyDocument=policy(f"sagemaker:Describe{number}*"))
    read = get(**name, PolicyName="p1")
    assert (read["PolicyName"], read[f"{title}Name"]) == ("p1", "one")
    assert read["PolicyDocument"] == json.loads(policy("sagemaker:Describe1*"))
    pages = iam.get_paginator(f"list_{kind}_policies").paginate(**name, PaginationConfig={"PageSize": 2})
    assert [page["PolicyNames"] for page in pages] == [["p0", "p1"], ["p2"]]
    assert status_of(put, **name, PolicyName="p", PolicyDocument="{") == ("MalformedPolicyDocument", 400)
    large = policy("s3:" + "x" * 11000)
    assert status_of(put, **name, PolicyName="p", PolicyDocument=large) == ("LimitExceeded", 409)
    getattr(iam, f"delete_{kind}_policy")(**name, PolicyName="p1")
    assert refused(get, **name, PolicyName="p1") == (
        "NoSuchEntity", f"The {kind} policy with name p1 cannot be found."
    )  # fmt: skip
    assert status_of(get, **{f"{title}Name": "two"}, PolicyName="p1") == ("NoSuchEntity", 404)


@pytest.mark.parametrize("kind", ["user", "group", "role"])
def test_attached_policies(iam: Any, kind: str) -> None:
    name = {f"{kind.title()}Name": "one"}
    trust = {"AssumeRolePolicyDocument": TRUST} if kind == "role" else {}
    getattr(iam, f"create_{kind}")(**name, **trust)
    own = iam.create_policy(PolicyName="own", PolicyDocument=policy())["Policy"]["Arn"]
    attach, listing = getattr(iam, f"attach_{kind}_policy"), getattr(iam, f"list_attached_{kind}_policies")
    for arn in (own, MANAGED, own):
        attach(**name, PolicyArn=arn)
    assert [each["PolicyArn"] for each in listing(**name)["AttachedPolicies"]] == [MANAGED, own]
    assert listing(**name, MaxItems=1)["IsTruncated"]
    assert iam.get_policy(PolicyArn=own)["Policy"]["AttachmentCount"] == 1
    assert status_of(iam.delete_policy, PolicyArn=own) == ("DeleteConflict", 409)
    found = iam.list_entities_for_policy(PolicyArn=own)
    assert [each[f"{kind.title()}Name"] for each in found[f"Policy{kind.title()}s"]] == ["one"]
    assert iam.list_policies(OnlyAttached=True, Scope="Local")["Policies"][0]["Arn"] == own
    assert status_of(attach, **name, PolicyArn=own + "2") == ("NoSuchEntity", 404)
    getattr(iam, f"detach_{kind}_policy")(**name, PolicyArn=own)
    assert status_of(getattr(iam, f"detach_{kind}_policy"), **name, PolicyArn=own) == ("NoSuchEntity", 404)
    iam.delete_policy(PolicyArn=own)


def test_at_most_ten_policies_are_attached(iam: Any) -> None:
    iam.create_user(UserName="u")
    arns = [iam.create_policy(PolicyName=f"p{n}", PolicyDocument=policy())["Policy"]["Arn"] for n in range(11)]
    for arn in arns[:10]:
        iam.attach_user_policy(UserName="u", PolicyArn=arn)
    assert status_of(iam.attach_user_policy, UserName="u", PolicyArn=arns[10]) == ("LimitExceeded", 409)


def test_a_policy_has_versions(iam: Any) -> None:
    made = iam.create_policy(PolicyName="p", PolicyDocument=policy("s3:a"), Description="d")["Policy"]
    arn = made["Arn"]
    assert (made["DefaultVersionId"], made["PolicyId"][:4]) == ("v1", "ANPA")
    assert status_of(iam.create_policy, PolicyName="P", PolicyDocument=policy()) == ("EntityAlreadyExists", 409)
    second = iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy("s3:b"), SetAsDefault=True)
    assert (second["PolicyVersion"]["VersionId"], second["PolicyVersion"]["IsDefaultVersion"]) == ("v2", True)
    for letter in "cde":
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy(f"s3:{letter}"))
    assert status_of(iam.create_policy_version, PolicyArn=arn, PolicyDocument=policy()) == ("LimitExceeded", 409)
    assert status_of(iam.delete_policy_version, PolicyArn=arn, VersionId="v2") == ("DeleteConflict", 409)
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v5")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    pages = iam.get_paginator("list_policy_versions").paginate(PolicyArn=arn, PaginationConfig={"PageSize": 3})
    assert [[v["VersionId"] for v in page["Versions"]] for page in pages] == [["v5", "v4", "v3"], ["v1"]]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=policy("s3:f"))
    read = iam.get_policy_version(PolicyArn=arn, VersionId="v6")["PolicyVersion"]
    assert (read["Document"], read["IsDefaultVersion"]) == (json.loads(policy("s3:f")), False)
    for call in (iam.get_policy_version, iam.set_default_policy_version, iam.delete_policy_version):
        assert status_of(call, PolicyArn=arn, VersionId="v2") == ("NoSuchEntity", 404)
    assert status_of(iam.delete_policy, PolicyArn=arn) == ("DeleteConflict", 409)


def test_managed_policies_are_aws_s_own_and_the_account_s(iam: Any) -> None:
    iam.create_policy(PolicyName="p", Path="/mine/", PolicyDocument=policy())
    assert [each["PolicyName"] for each in iam.list_policies(Scope="Local")["Policies"]] == ["p"]
    pages = iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 4})
    arns = [each["Arn"] for page in pages for each in page["Policies"]]
    assert len(arns) == len(set(arns))
    assert {MANAGED, f"arn:aws:iam::{ACCOUNT}:policy/mine/p"} <= set(arns)
    assert iam.get_policy(PolicyArn=MANAGED)["Policy"]["PolicyName"] == "AmazonSageMakerFullAccess"
    version = iam.get_policy(PolicyArn=MANAGED)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=MANAGED, VersionId=version)["PolicyVersion"]["Document"]
    assert document["Statement"]
    assert status_of(iam.delete_policy, PolicyArn=MANAGED) == ("NoSuchEntity", 404)
    assert status_of(iam.get_policy, PolicyArn=MANAGED + "2") == ("NoSuchEntity", 404)


def test_permissions_boundaries(iam: Any) -> None:
    bound = iam.create_policy(PolicyName="b", PolicyDocument=policy())["Policy"]["Arn"]
    iam.create_user(UserName="u", PermissionsBoundary=bound)
    assert iam.get_user(UserName="u")["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == bound
    assert status_of(iam.delete_policy, PolicyArn=bound) == ("DeleteConflict", 409)
    iam.delete_user_permissions_boundary(UserName="u")
    assert "PermissionsBoundary" not in iam.get_user(UserName="u")["User"]
    assert status_of(iam.delete_user_permissions_boundary, UserName="u") == ("NoSuchEntity", 404)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    iam.put_role_permissions_boundary(RoleName="r", PermissionsBoundary=MANAGED)
    assert iam.get_role(RoleName="r")["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == MANAGED
    missing = bound + "2"
    assert status_of(iam.create_user, UserName="v", PermissionsBoundary=missing) == ("NoSuchEntity", 404)


@pytest.mark.parametrize("kind", ["user", "role", "policy"])
def test_tags(iam: Any, kind: str) -> None:
    iam.create_user(UserName="one")
    iam.create_role(RoleName="one", AssumeRolePolicyDocument=TRUST)
    arn = iam.create_policy(PolicyName="one", PolicyDocument=policy())["Policy"]["Arn"]
    name = {"PolicyArn": arn} if kind == "policy" else {f"{kind.title()}Name": "one"}
    getattr(iam, f"tag_{kind}")(**name, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    getattr(iam, f"untag_{kind}")(**name, TagKeys=["a", "z"])
    assert getattr(iam, f"list_{kind}_tags")(**name)["Tags"] == [{"Key": "b", "Value": "2"}]
    twice = [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]
    assert refused(getattr(iam, f"tag_{kind}"), **name, Tags=twice)[0] in ("ValidationError", "InvalidInput")
    many = [{"Key": f"k{number}", "Value": ""} for number in range(50)]
    assert status_of(getattr(iam, f"tag_{kind}"), **name, Tags=many) == ("LimitExceeded", 409)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_access_keys(iam: Any) -> None:
    iam.create_user(UserName="u")
    made = iam.create_access_key(UserName="u")["AccessKey"]
    assert (made["AccessKeyId"][:4], len(made["AccessKeyId"]), len(made["SecretAccessKey"])) == ("AKIA", 20, 40)
    second = iam.create_access_key(UserName="u")["AccessKey"]["AccessKeyId"]
    assert status_of(iam.create_access_key, UserName="u") == ("LimitExceeded", 409)
    iam.update_access_key(UserName="u", AccessKeyId=second, Status="Inactive")
    listed = iam.list_access_keys(UserName="u")["AccessKeyMetadata"]
    assert {key["AccessKeyId"]: key["Status"] for key in listed} == {made["AccessKeyId"]: "Active", second: "Inactive"}
    assert all("SecretAccessKey" not in key for key in listed)
    used = iam.get_access_key_last_used(AccessKeyId=second)
    assert (used["UserName"], used["AccessKeyLastUsed"]["ServiceName"]) == ("u", "N/A")
    iam.delete_access_key(UserName="u", AccessKeyId=second)
    assert status_of(iam.delete_access_key, UserName="u", AccessKeyId=second) == ("NoSuchEntity", 404)
    assert status_of(iam.create_access_key, UserName="nobody") == ("NoSuchEntity", 404)
    assert status_of(iam.get_access_key_last_used, AccessKeyId=second) == ("NoSuchEntity", 404)
    iam.create_user(UserName="v")
    assert status_of(iam.delete_access_key, UserName="v", AccessKeyId=made["AccessKeyId"]) == ("NoSuchEntity", 404)


def test_a_secret_is_in_no_byte_of_the_database(iam: Any, store: Any, tmp_path: Any) -> None:
    iam.create_user(UserName="u")
    secret = iam.create_access_key(UserName="u")["AccessKey"]["SecretAccessKey"]
    key = iam.create_service_specific_credential(UserName="u", ServiceName="sagemaker.amazonaws.com")
    bearer = key["ServiceSpecificCredential"]["ServiceCredentialSecret"]
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("hearth.db*"))
    assert b'"UserName": "u"' in kept
    assert not [each for each in (secret, bearer, bearer.removeprefix("hk-")) if each.encode() in kept]


def test_api_keys_are_service_specific_credentials(iam: Any) -> None:
    iam.create_user(UserName="u")
    service = {"UserName": "u", "ServiceName": "sagemaker.amazonaws.com"}
    made = iam.create_service_specific_credential(**service, CredentialAgeDays=1)["ServiceSpecificCredential"]
    assert made["ServiceCredentialSecret"].startswith("hk-")
    assert 86300 < (made["ExpirationDate"] - made["CreateDate"]).total_seconds() < 86500
    named = {"UserName": "u", "ServiceSpecificCredentialId": made["ServiceSpecificCredentialId"]}
    iam.update_service_specific_credential(**named, Status="Inactive")
    listed = iam.list_service_specific_credentials(UserName="u")["ServiceSpecificCredentials"]
    assert [(each["Status"], "ServiceCredentialSecret" in each) for each in listed] == [("Inactive", False)]
    again = iam.reset_service_specific_credential(**named)["ServiceSpecificCredential"]
    assert again["ServiceCredentialSecret"] != made["ServiceCredentialSecret"]
    assert status_of(iam.delete_user, UserName="u") == ("DeleteConflict", 409)
    iam.delete_service_specific_credential(**named)
    assert status_of(iam.delete_service_specific_credential, **named) == ("NoSuchEntity", 404)
    other = {**service, "ServiceName": "codecommit.amazonaws.com"}
    assert status_of(iam.create_service_specific_credential, **other) == ("NotSupportedService", 404)


def test_the_summary_counts(iam: Any) -> None:
    iam.create_user(UserName="u")
    iam.create_policy(PolicyName="p", PolicyDocument=policy())
    counts = iam.get_account_summary()["SummaryMap"]
    assert (counts["Users"], counts["Policies"], counts["Groups"], counts["AccessKeysPerUserQuota"]) == (1, 1, 0, 2)


# ── simulation ───────────────────────────────────────────────────────────────────────────────────────────────────────


def decisions(answer: Any) -> dict[str, str]:
    return {each["EvalActionName"]: each["EvalDecision"] for each in answer["EvaluationResults"]}


def test_the_root_may_do_all(iam: Any) -> None:
    root = f"arn:aws:iam::{ACCOUNT}:root"
    answer = iam.simulate_principal_policy(PolicySourceArn=root, ActionNames=["sagemaker:CreateModel", "s3:GetObject"])
    assert decisions(answer) == {"sagemaker:CreateModel": "allowed", "s3:GetObject": "allowed"}


def test_a_role_may_what_its_policies_say(iam: Any) -> None:
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy("sagemaker:Create*"))
    iam.put_role_policy(RoleName="r", PolicyName="q", PolicyDocument=policy("sagemaker:CreateApp", "Deny"))
    arn, actions = f"arn:aws:iam::{ACCOUNT}:role/r", ["sagemaker:CreateModel", "sagemaker:CreateApp", "s3:GetObject"]
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)
    assert list(decisions(answer).values()) == ["allowed", "explicitDeny", "implicitDeny"]
    assert answer["EvaluationResults"][0]["MatchedStatements"][0]["SourcePolicyId"] == "p"
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=arn, ActionNames=actions, PaginationConfig={"PageSize": 2}
    )
    assert [len(page["EvaluationResults"]) for page in pages] == [2, 1]
    missing = {"PolicySourceArn": arn + "2", "ActionNames": actions}
    assert status_of(iam.simulate_principal_policy, **missing) == ("NoSuchEntity", 404)
    missing["PolicySourceArn"] = "arn:aws:s3:::bucket-of-mine"
    assert status_of(iam.simulate_principal_policy, **missing) == ("InvalidInput", 400)


def test_groups_and_boundaries_count(iam: Any) -> None:
    iam.create_user(UserName="u")
    iam.create_group(GroupName="g")
    iam.put_group_policy(GroupName="g", PolicyName="p", PolicyDocument=policy("sagemaker:*"))
    iam.add_user_to_group(GroupName="g", UserName="u")
    arn, actions = f"arn:aws:iam::{ACCOUNT}:user/u", ["sagemaker:CreateModel", "sagemaker:CreateApp"]
    assert set(decisions(iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)).values()) == {
        "allowed"
    }
    bound = iam.create_policy(PolicyName="b", PolicyDocument=policy("sagemaker:CreateApp"))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="u", PermissionsBoundary=bound)
    answer = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=actions)
    assert list(decisions(answer).values()) == ["implicitDeny", "allowed"]


def test_policies_of_one_s_own_are_simulated(iam: Any) -> None:
    answer = iam.simulate_custom_policy(PolicyInputList=[policy("sagemaker:*")], ActionNames=["sagemaker:CreateModel"])
    assert decisions(answer) == {"sagemaker:CreateModel": "allowed"}
    broken = {"PolicyInputList": ["{"], "ActionNames": ["s3:GetObject"]}
    assert status_of(iam.simulate_custom_policy, **broken) == ("InvalidInput", 400)
