"""A door that asks who calls: real clients with keys, sessions and API keys, and what each of them may."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server.identity.directory import Directory
from server.identity.first_key import first_key
from server.identity.keys import add_api_key
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.door.serving import ACCOUNT, API_KEY, Asking, Keys, allow, deny, policy, refused, started


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with started(tmp_path_factory.mktemp("callers")) as asking:
        yield asking


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_key_is_the_root_s_and_made_once(door: Asking) -> None:
    assert door.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    file = door.settings.state_dir / "root-credentials"
    assert file.stat().st_mode & 0o777 == 0o600
    box = SecretBox(Vault(door.store.engine, door.settings.master_keys))
    assert first_key(door.store, box, door.settings.state_dir) is None


def test_a_user_is_known_by_its_key(door: Asking) -> None:
    keys = door.user("known")
    identity = door.client("sts", keys).get_caller_identity()
    assert (identity["Arn"], identity["UserId"][:4]) == (f"arn:aws:iam::{ACCOUNT}:user/known", "AIDA")
    assert door.client("sts").get_access_key_info(AccessKeyId=keys.aws_access_key_id)["Account"] == ACCOUNT


@pytest.mark.parametrize(
    ("service", "call", "wrong", "code"),
    [
        ("sagemaker", "list_models", "id", "UnrecognizedClientException"),
        ("sagemaker", "list_models", "secret", "InvalidSignatureException"),
        ("sts", "get_caller_identity", "id", "InvalidClientTokenId"),
        ("iam", "list_users", "secret", "SignatureDoesNotMatch"),
        ("s3", "list_buckets", "id", "InvalidAccessKeyId"),
        ("s3", "list_buckets", "secret", "SignatureDoesNotMatch"),
    ],
)
def test_wrong_keys_are_refused_in_each_service_s_words(
    door: Asking, service: str, call: str, wrong: str, code: str
) -> None:
    keys = Keys("AKIAAAAAAAAAAAAAAAAA" if wrong == "id" else door.root.aws_access_key_id,
                "x" * 40 if wrong == "secret" else door.root.aws_secret_access_key)  # fmt: skip
    assert refused(getattr(door.client(service, keys), call))[:2] == (code, 403)


def test_nobody_comes_in_without_credentials_but_to_ping(door: Asking) -> None:
    for path in ("/", "/metrics", "/v1/models", "/v1/models/m", "/hearth/endpoints", "/hearth/state"):
        reply = door.get(path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key"), path
    assert door.get("/ping").status_code == 200
    sent = {"x-amz-target": "SageMaker.ListModels", "content-type": "application/x-amz-json-1.1"}
    reply = httpx.post(door.url, content=b"{}", headers=sent, trust_env=False)
    assert (reply.status_code, reply.json()["__type"]) == (403, "MissingAuthenticationTokenException")
    reply = httpx.post(f"{door.url}/endpoints/m/invocations", content=b"{}", trust_env=False)
    assert (reply.status_code, reply.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")
    reply = httpx.post(f"{door.url}/v1/completions", content=b"{}", trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


def test_api_keys_are_the_settings_s_the_machine_s_and_those_made(door: Asking) -> None:
    token = (door.settings.state_dir / "token").read_text().strip()
    with Directory(door.store).change() as unit:
        row, made = add_api_key(unit, ACCOUNT, None)
        _, ended = add_api_key(unit, ACCOUNT, time.time() - 1)
    for key in (API_KEY, token, made):
        assert door.get("/hearth/endpoints", key).status_code == 200
    for key in (API_KEY + "x", ended, "none", "hk-none", "sagemaker-api-key-none"):
        assert door.get("/hearth/endpoints", key).status_code == 401
    with Directory(door.store).change() as unit:
        unit.store.remove(row)
    assert door.get("/hearth/endpoints", made).status_code == 401


def test_a_key_ends_at_once(door: Asking) -> None:
    keys, iam = door.user("ending", allow("sagemaker:*")), door.client("iam")
    sagemaker, key = door.client("sagemaker", keys), {"UserName": "ending", "AccessKeyId": keys.aws_access_key_id}
    sagemaker.list_models()
    iam.update_access_key(**key, Status="Inactive")
    assert refused(sagemaker.list_models)[0] == "UnrecognizedClientException"
    iam.update_access_key(**key, Status="Active")
    sagemaker.list_models()
    iam.delete_access_key(**key)
    assert refused(sagemaker.list_models)[0] == "UnrecognizedClientException"


def test_when_a_key_was_last_used_is_remembered(door: Asking) -> None:
    keys, iam = door.user("remembered", allow("sagemaker:*")), door.client("iam")
    door.client("sagemaker", keys).list_models()
    deadline = time.monotonic() + 60
    while "LastUsedDate" not in (used := iam.get_access_key_last_used(AccessKeyId=keys.aws_access_key_id)[
        "AccessKeyLastUsed"
    ]):  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (used["ServiceName"], used["Region"]) == ("sagemaker", "us-east-1")
    assert abs(used["LastUsedDate"].timestamp() - time.time()) < 30


def test_a_signature_is_for_the_service_that_is_called(door: Asking) -> None:
    reply = door.client("sagemaker")
    signed: dict[str, Any] = {}
    reply.meta.events.register("before-send.sagemaker.ListModels", lambda request, **_: signed.update(request.headers))
    reply.list_models()
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in signed.items()}
    headers["X-Amz-Target"] = "TrentService.ListKeys"
    answer = httpx.post(door.url, content=b"{}", headers=headers, trust_env=False)
    assert answer.json()["__type"] == "InvalidSignatureException"


# ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_may_what_its_policies_say(door: Asking) -> None:
    keys = door.user("may", allow("sagemaker:ListModels"))
    sagemaker = door.client("sagemaker", keys)
    sagemaker.list_models()
    code, status, message = refused(sagemaker.list_endpoints)
    assert (code, status) == ("AccessDeniedException", 400)
    assert message == (
        f"User: arn:aws:iam::{ACCOUNT}:user/may is not authorized to perform: sagemaker:ListEndpoints on resource: * "
        "because no identity-based policy allows the sagemaker:ListEndpoints action"
    )
    assert refused(door.client("iam", keys).list_users)[:2] == ("AccessDenied", 403)


def test_resources_and_passed_roles_count(door: Asking) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/works"
    keys = door.user(
        "resources", allow("sagemaker:CreateModel", resource="arn:aws:sagemaker:*:*:model/mine-*"),
        allow("iam:PassRole", resource=role),
    )  # fmt: skip
    sagemaker = door.client("sagemaker", keys)
    model: dict[str, Any] = {"PrimaryContainer": {"Image": "hearth/hearth-digits"}, "ExecutionRoleArn": role}
    sagemaker.create_model(ModelName="mine-1", **model)
    assert "on resource: arn:aws:sagemaker:us-east-1" in refused(sagemaker.create_model, ModelName="yours", **model)[2]
    model["ExecutionRoleArn"] += "-other"
    assert "iam:PassRole" in refused(sagemaker.create_model, ModelName="mine-2", **model)[2]
    assert [each["ModelName"] for each in door.client("sagemaker").list_models()["Models"]] == ["mine-1"]


def test_a_denial_goes_over_all(door: Asking) -> None:
    keys = door.user("denied", allow("*"), deny("sagemaker:DeleteModel", "s3:DeleteObject"))
    message = refused(door.client("sagemaker", keys).delete_model, ModelName="mine-1")[2]
    assert message.endswith("with an explicit deny in an identity-based policy")
    s3 = door.client("s3", keys)
    s3.create_bucket(Bucket="denied")
    s3.put_object(Bucket="denied", Key="k", Body=b"1")
    assert refused(s3.delete_object, Bucket="denied", Key="k")[:2] == ("AccessDenied", 403)
    named = {"Objects": [{"Key": "k"}]}
    assert refused(s3.delete_objects, Bucket="denied", Delete=named)[:2] == ("AccessDenied", 403)
    assert s3.get_object(Bucket="denied", Key="k")["Body"].read() == b"1"


def test_groups_boundaries_and_changes_count_at_once(door: Asking) -> None:
    keys, iam = door.user("changing"), door.client("iam")
    sagemaker = door.client("sagemaker", keys)
    assert refused(sagemaker.list_models)[0] == "AccessDeniedException"
    iam.create_group(GroupName="those")
    iam.attach_group_policy(GroupName="those", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    iam.add_user_to_group(GroupName="those", UserName="changing")
    sagemaker.list_models()
    bound = iam.create_policy(PolicyName="bound", PolicyDocument=policy(allow("s3:*")))["Policy"]["Arn"]
    iam.put_user_permissions_boundary(UserName="changing", PermissionsBoundary=bound)
    assert "no permissions boundary allows" in refused(sagemaker.list_models)[2]


def test_conditions_see_tags(door: Asking) -> None:
    only: dict[str, Any] = {"Condition": {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}}
    keys = door.user("tagged", allow("sagemaker:DescribeModel", **only))
    door.client("iam").tag_user(UserName="tagged", Tags=[{"Key": "team", "Value": "red"}])
    root = door.client("sagemaker")
    for name, team in (("red", "red"), ("blue", "blue")):
        root.create_model(
            ModelName=name, PrimaryContainer={"Image": "hearth/hearth-digits"}, Tags=[{"Key": "team", "Value": team}]
        )
    sagemaker = door.client("sagemaker", keys)
    assert sagemaker.describe_model(ModelName="red")["ModelName"] == "red"
    assert refused(sagemaker.describe_model, ModelName="blue")[0] == "AccessDeniedException"


def test_objects_are_allowed_by_bucket_and_action(door: Asking) -> None:
    door.client("s3").create_bucket(Bucket="shared")
    keys = door.user(
        "objects", allow("s3:GetObject", "s3:PutObject", resource="arn:aws:s3:::shared/mine/*"),
        allow("s3:ListBucket", resource="arn:aws:s3:::shared", Condition={"StringLike": {"s3:prefix": "mine/*"}}),
    )  # fmt: skip
    s3 = door.client("s3", keys)
    s3.put_object(Bucket="shared", Key="mine/a", Body=b"1")
    assert s3.get_object(Bucket="shared", Key="mine/a")["Body"].read() == b"1"
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="shared", Prefix="mine/")["Contents"]] == ["mine/a"]
    for call, arguments in (
        (s3.put_object, {"Key": "other", "Body": b"1"}),
        (s3.list_objects_v2, {}),
        (s3.delete_object, {"Key": "mine/a"}),
        (s3.copy_object, {"Key": "mine/b", "CopySource": "shared/other"}),
    ):
        assert refused(call, Bucket="shared", **arguments)[:2] == ("AccessDenied", 403)
    url = s3.generate_presigned_url("get_object", {"Bucket": "shared", "Key": "mine/a"})
    assert httpx.get(url, trust_env=False).content == b"1"
    assert httpx.get(url.replace("mine/a", "mine/b"), trust_env=False).status_code == 403


def test_hearth_s_own_routes_ask_too(door: Asking) -> None:
    door.user("looker", allow("sagemaker:ListEndpoints"))
    made = door.client("iam").create_service_specific_credential(
        UserName="looker", ServiceName="sagemaker.amazonaws.com"
    )
    key = made["ServiceSpecificCredential"]["ServiceCredentialSecret"]
    assert door.get("/hearth/endpoints", key).status_code == 200
    assert door.get("/v1/models", key).json() == {"object": "list", "data": []}
    assert door.get("/metrics", key).status_code == 403
    headers = {"authorization": f"Bearer {key}"}
    put = httpx.put(f"{door.url}/hearth/endpoints/e", json={"model": "m"}, headers=headers, trust_env=False)
    assert (put.status_code, put.json()["error"]["type"]) == (403, "permission_error")
    assert door.get("/hearth/endpoints", API_KEY).json() == {"endpoints": []}


def test_who_may_not_call_an_endpoint_does_not_wake_it(door: Asking) -> None:
    httpx.put(f"{door.url}/hearth/endpoints/asleep", json={"model": "hearth-digits"}, trust_env=False,
              headers={"authorization": f"Bearer {API_KEY}"})  # fmt: skip
    runtime = door.client("sagemaker-runtime", door.user("caller", deny("sagemaker:InvokeEndpoint"), allow("*")))
    code, status, message = refused(runtime.invoke_endpoint, EndpointName="asleep", Body=b"{}")
    assert (code, status) == ("AccessDeniedException", 403)
    assert f"on resource: arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/asleep with an explicit deny" in message
    wrong = Keys(door.root.aws_access_key_id, "x" * 40)
    assert refused(door.client("sagemaker-runtime", wrong).invoke_endpoint, EndpointName="asleep", Body=b"{}")[:2] == (
        "InvalidSignatureException", 403,
    )  # fmt: skip


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def role(door: Asking, name: str, trust: Any, *statements: Any, **more: Any) -> str:
    iam = door.client("iam")
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust), **more)["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
    return str(made["Arn"])


def trusts(principal: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole", **more}


def test_a_role_is_assumed_by_whom_it_trusts(door: Asking) -> None:
    trusted, other = door.user("trusted"), door.user("other", allow("sts:AssumeRole"))
    arn = role(door, "assumed", trusts(f"arn:aws:iam::{ACCOUNT}:user/trusted"), allow("sagemaker:ListModels"))
    made = door.client("sts", trusted).assume_role(RoleArn=arn, RoleSessionName="one")
    assert made["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/assumed/one"
    assert 3500 < made["Credentials"]["Expiration"].timestamp() - time.time() < 3601
    session = Keys.of(made["Credentials"])
    identity = door.client("sts", session).get_caller_identity()
    assert (identity["Arn"], identity["UserId"]) == (
        made["AssumedRoleUser"]["Arn"], made["AssumedRoleUser"]["AssumedRoleId"]
    )  # fmt: skip
    door.client("sagemaker", session).list_models()
    assert "assumed-role/assumed/one is not authorized" in refused(door.client("sagemaker", session).list_endpoints)[2]
    named = {"RoleArn": arn, "RoleSessionName": "xx"}
    assert refused(door.client("sts", other).assume_role, **named)[:2] == ("AccessDenied", 403)
    assert refused(door.client("sts").assume_role, **named)[2].startswith("Roles may not be")
    missing = refused(door.client("sts", trusted).assume_role, RoleArn=arn + "2", RoleSessionName="xx")
    assert missing[:2] == ("AccessDenied", 403)


def test_trust_in_an_account_leaves_it_to_its_policies(door: Asking) -> None:
    arn = role(door, "account", trusts(f"arn:aws:iam::{ACCOUNT}:root"), allow("*"))
    may, may_not = door.user("assumes", allow("sts:AssumeRole", resource=arn)), door.user("assumes-not")
    door.client("sts", may).assume_role(RoleArn=arn, RoleSessionName="xx")
    assert refused(door.client("sts", may_not).assume_role, RoleArn=arn, RoleSessionName="xx")[0] == "AccessDenied"


def test_an_external_id_is_asked_for(door: Asking) -> None:
    keys = door.user("external")
    asked = {"Condition": {"StringEquals": {"sts:ExternalId": "e-1"}}}
    arn = role(door, "external", trusts(f"arn:aws:iam::{ACCOUNT}:user/external", **asked), allow("*"))
    sts = door.client("sts", keys)
    assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="xx")[0] == "AccessDenied"
    assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="xx", ExternalId="e-2")[0] == "AccessDenied"
    sts.assume_role(RoleArn=arn, RoleSessionName="xx", ExternalId="e-1")


def test_a_session_policy_only_takes_away(door: Asking) -> None:
    keys = door.user("bounding")
    arn = role(door, "bounding", trusts(f"arn:aws:iam::{ACCOUNT}:user/bounding"), allow("sagemaker:*"))
    sts = door.client("sts", keys)
    bound = sts.assume_role(
        RoleArn=arn, RoleSessionName="xx", Policy=policy(allow("sagemaker:ListModels", "s3:*")),
    )  # fmt: skip
    whole = sts.assume_role(RoleArn=arn, RoleSessionName="xx")
    assert 0 < bound["PackedPolicySize"] <= 100
    sagemaker = door.client("sagemaker", Keys.of(whole["Credentials"]))
    sagemaker.list_endpoints()
    sagemaker = door.client("sagemaker", Keys.of(bound["Credentials"]))
    sagemaker.list_models()
    assert "no session policy allows" in refused(sagemaker.list_endpoints)[2]
    s3 = door.client("s3", Keys.of(bound["Credentials"]))
    assert refused(s3.list_buckets)[:2] == ("AccessDenied", 403)
    broken = {"RoleArn": arn, "RoleSessionName": "xx", "Policy": "{"}
    assert refused(sts.assume_role, **broken)[:2] == ("MalformedPolicyDocument", 400)


def test_how_long_a_session_may_last(door: Asking) -> None:
    keys = door.user("lasting")
    trust = trusts(f"arn:aws:iam::{ACCOUNT}:user/lasting")
    arn = role(door, "lasting", trust, allow("*"), MaxSessionDuration=7200)
    sts, named = door.client("sts", keys), {"RoleArn": arn, "RoleSessionName": "xx"}
    made = sts.assume_role(**named, DurationSeconds=7200)["Credentials"]
    assert made["Expiration"].timestamp() - time.time() > 7000
    code, status, message = refused(sts.assume_role, **named, DurationSeconds=7201)
    assert (code, status) == ("ValidationError", 400)
    assert "MaxSessionDuration" in message


def test_a_session_token_is_for_its_key_alone_and_whole(door: Asking) -> None:
    user = door.user("token", allow("sagemaker:*"))
    sts = door.client("sts", user)
    one, two = (Keys.of(sts.get_session_token()["Credentials"]) for _ in range(2))
    assert door.client("sts", one).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/token"
    door.client("sagemaker", one).list_models()
    assert refused(door.client("sts", one).get_session_token)[0] == "AccessDenied"
    token = str(one.aws_session_token)
    for wrong in (two.aws_session_token, token[:-8] + "AAAAAAA=", None, "token"):
        keys = Keys(one.aws_access_key_id, one.aws_secret_access_key, wrong)
        assert refused(door.client("sagemaker", keys).list_models)[0] == "UnrecognizedClientException"
    taken = Keys(user.aws_access_key_id, user.aws_secret_access_key, token)
    assert refused(door.client("sagemaker", taken).list_models)[0] == "UnrecognizedClientException"


def test_sessions_end_with_their_role(door: Asking) -> None:
    keys, iam = door.user("ends"), door.client("iam")
    arn = role(door, "ends", trusts(f"arn:aws:iam::{ACCOUNT}:user/ends"), allow("sagemaker:*"))
    session = Keys.of(door.client("sts", keys).assume_role(RoleArn=arn, RoleSessionName="xx")["Credentials"])
    sagemaker = door.client("sagemaker", session)
    sagemaker.list_models()
    iam.delete_role_policy(RoleName="ends", PolicyName="own")
    assert refused(sagemaker.list_models)[0] == "AccessDeniedException"
    iam.delete_role(RoleName="ends")
    assert refused(sagemaker.list_models)[0] == "UnrecognizedClientException"


def test_objects_take_sessions(door: Asking) -> None:
    keys = Keys.of(door.client("sts").get_session_token()["Credentials"])
    s3 = door.client("s3", keys)
    s3.create_bucket(Bucket="session")
    url = s3.generate_presigned_url("list_objects_v2", {"Bucket": "session"})
    assert httpx.get(url, trust_env=False).status_code == 200


def test_no_secret_is_logged(door: Asking, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    keys = door.user("logged", allow("sagemaker:*"))
    session = Keys.of(door.client("sts", keys).get_session_token()["Credentials"])
    door.client("sagemaker", session).list_models()
    wrong = Keys(keys.aws_access_key_id, "y" * 40)
    refused(door.client("sagemaker", wrong).list_models)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("botocore", "urllib3"))]
    said = "\n".join(ours) + "".join(capfd.readouterr())
    for secret in (keys.aws_secret_access_key, session.aws_secret_access_key, str(session.aws_session_token)):
        assert secret not in said


# ── policies of keys ─────────────────────────────────────────────────────────────────────────────────────────────────

ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"


def of_key(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def grants(principal: str, *actions: str, effect: str = "Allow") -> dict[str, Any]:
    return {"Effect": effect, "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"}


def test_a_key_s_policy_hands_on_to_iam_or_names_a_user_itself(door: Asking) -> None:
    kms = door.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    stranger, able = door.user("key-stranger"), door.user("key-able", allow("kms:*"))
    asked = {"KeyId": key, "Plaintext": b"x"}
    assert door.client("kms", able).encrypt(**asked)["CiphertextBlob"]
    assert refused(door.client("kms", stranger).encrypt, **asked)[0] == "AccessDeniedException"
    named = f"arn:aws:iam::{ACCOUNT}:user/key-stranger"
    kms.put_key_policy(KeyId=key, Policy=of_key(grants(ROOT_ARN, "kms:*"), grants(named, "kms:Encrypt")))
    blob = door.client("kms", stranger).encrypt(**asked)["CiphertextBlob"]
    code, _, message = refused(door.client("kms", stranger).decrypt, KeyId=key, CiphertextBlob=blob)
    assert (code, "identity-based policy" in message) == ("AccessDeniedException", True)


def test_what_a_key_s_policy_does_not_allow_iam_cannot(door: Asking) -> None:
    able = door.user("key-other", allow("kms:*"))
    admin = door.user("key-admin", allow("kms:*"))
    only = f"arn:aws:iam::{ACCOUNT}:user/key-admin"
    made = door.client("kms", admin).create_key(Policy=of_key(grants(only, "kms:*")))["KeyMetadata"]["KeyId"]
    asked = {"KeyId": made, "Plaintext": b"x"}
    code, _, message = refused(door.client("kms", able).encrypt, **asked)
    assert (code, "resource-based policy" in message) == ("AccessDeniedException", True)
    assert refused(door.client("kms").encrypt, **asked)[0] == "AccessDeniedException"
    assert door.client("kms", admin).encrypt(**asked)["CiphertextBlob"]


def test_a_denial_in_a_key_s_policy_ends_it(door: Asking) -> None:
    kms = door.client("kms")
    user = door.user("key-denied", allow("kms:*"))
    arn = f"arn:aws:iam::{ACCOUNT}:user/key-denied"
    key = kms.create_key(Policy=of_key(grants(ROOT_ARN, "kms:*"), grants(arn, "kms:Encrypt", effect="Deny")))
    asked = {"KeyId": key["KeyMetadata"]["KeyId"], "Plaintext": b"x"}
    code, _, message = refused(door.client("kms", user).encrypt, **asked)
    assert (code, "explicit deny in a resource-based policy" in message) == ("AccessDeniedException", True)
    assert kms.encrypt(**asked)["CiphertextBlob"]


def test_nobody_shuts_a_key_s_policy_in_by_mistake(door: Asking) -> None:
    kms = door.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    shut = of_key(grants(f"arn:aws:iam::{ACCOUNT}:user/nobody", "kms:*"))
    code, status, message = refused(kms.put_key_policy, KeyId=key, Policy=shut)
    assert (code, status) == ("MalformedPolicyDocumentException", 400)
    assert "not allow you to update the key policy" in message
    assert refused(kms.create_key, Policy=shut)[0] == "MalformedPolicyDocumentException"
    kms.put_key_policy(KeyId=key, Policy=shut, BypassPolicyLockoutSafetyCheck=True)
    assert refused(kms.describe_key, KeyId=key)[0] == "AccessDeniedException"


def test_an_object_s_key_has_its_say_beside_s3_s_permission(door: Asking) -> None:
    kms, s3 = door.client("kms"), door.client("s3")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    s3.create_bucket(Bucket="under-a-key")
    theirs, own = ({"Bucket": "under-a-key", "Key": name} for name in ("theirs", "own"))
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    s3.put_object(**theirs, **sealed, Body=b"1")
    objects = door.client("s3", door.user("objects-only", allow("s3:*")))
    code, status, message = refused(objects.get_object, **theirs)
    assert (code, status) == ("AccessDenied", 403)
    assert f"not authorized to perform: kms:Decrypt on resource: {key}" in message
    assert "kms:GenerateDataKey" in refused(objects.put_object, **own, **sealed, Body=b"2")[2]
    assert refused(objects.copy_object, **own, CopySource=theirs)[0] == "AccessDenied"
    assert refused(s3.head_object, **own)[1] == 404

    reads = door.client("s3", door.user("objects-read", allow("s3:*"), allow("kms:Decrypt", resource=key)))
    assert reads.get_object(**theirs)["Body"].read() == b"1"
    assert refused(reads.put_object, **own, **sealed, Body=b"2")[0] == "AccessDenied"
    through = {"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}
    both = allow("kms:Decrypt", "kms:GenerateDataKey", resource=key, Condition=through)
    writes = door.client("s3", door.user("objects-through", allow("s3:*"), both))
    writes.put_object(**own, **sealed, Body=b"2")
    assert writes.get_object(**own)["Body"].read() == b"2"
    named = f"arn:aws:iam::{ACCOUNT}:user/objects-through"
    kms.put_key_policy(
        KeyId=key, Policy=of_key(grants(ROOT_ARN, "kms:*"), grants(named, "kms:Decrypt", effect="Deny"))
    )
    assert refused(writes.get_object, **own)[0] == "AccessDenied"


def test_s3_s_own_key_is_for_whoever_may_use_s3(door: Asking) -> None:
    door.client("s3").create_bucket(Bucket="under-s3-s-key")
    objects = door.client("s3", door.user("objects-managed", allow("s3:*")))
    objects.put_object(Bucket="under-s3-s-key", Key="managed", Body=b"3", ServerSideEncryption="aws:kms")
    assert objects.get_object(Bucket="under-s3-s-key", Key="managed")["Body"].read() == b"3"
