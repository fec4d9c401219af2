"""Two accounts on one door: nothing of one is visible to the other, whatever it calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from server.control.audit import reads
from server.control.services import SERVICES
from server.identity.accounts import Accounts
from server.identity.directory import Directory
from server.identity.keys import add_api_key, new_access_key
from server.objects.local.registry import OPERATIONS
from server.objects.operations import MODEL
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.door.serving import ACCOUNT, SESSION, Asking, Keys, allow, policy, refused, started
from tests.door.zoo import CHAT, HERE, NOWHERE, Zoo, elsewhere, fill, request, texts

BUILT = [(name, each) for name, service in sorted(SERVICES.items()) for each in sorted(service.built)]
BODY = json.dumps({"inputs": "one"})


class Tenant:
    """An account with its root's keys, and a client of every service."""

    def __init__(self, door: Asking, name: str) -> None:
        accounts = Accounts(door.store, ACCOUNT)
        self.number = accounts.unused()
        key = new_access_key(self.number, SecretBox(Vault(door.store.engine, door.settings.master_keys)))
        accounts.create(self.number, name, key=key)
        self.keys = Keys(key.id, key.secret)
        with Directory(door.store.of(self.number)).change() as unit:
            self.api_key = add_api_key(unit, self.number, None)[1]
        self._door = door
        self._clients: dict[str, Any] = {}
        self.sent = ""
        """All that was ever asked."""

    def call(self, service: str, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer, or the error's code and message."""
        self.sent += json.dumps(given, default=str)
        if service not in self._clients:
            self._clients[service] = self._client(service)
        try:
            found: dict[str, Any] = getattr(self._clients[service], xform_name(operation))(**given)
        except ClientError as error:
            return {"Error": {name: error.response["Error"].get(name) for name in ("Code", "Message")}}
        except BotoCoreError as error:  # what botocore cannot even send
            return {"Error": {"Code": type(error).__name__, "Message": ""}}
        found.pop("ResponseMetadata")
        if "Body" in found:
            found["Body"] = found["Body"].read().decode()
        return found

    def _client(self, service: str) -> Any:
        made = SESSION.client(
            SERVICES[service].name if service in SERVICES else service, endpoint_url=self._door.url,
            region_name="us-east-1", aws_access_key_id=self.keys.aws_access_key_id,
            aws_secret_access_key=self.keys.aws_secret_access_key,
            config=Config(parameter_validation=False, retries={"max_attempts": 0}, read_timeout=20,
                          s3={"addressing_style": "path"}),
        )  # fmt: skip
        self._door.clients.append(made)
        return made


class Two:
    def __init__(self, door: Asking) -> None:
        self.door = door
        self.one, self.other = Tenant(door, "one"), Tenant(door, "other")
        self.zoo: Zoo = fill(door, self.one.number, self.one.keys)
        s3 = door.client("s3", self.one.keys)
        s3.create_bucket(Bucket=f"{HERE}-bucket")
        s3.put_object(Bucket=f"{HERE}-bucket", Key=f"{HERE}.txt", Body=HERE.encode())
        upload = s3.create_multipart_upload(Bucket=f"{HERE}-bucket", Key=f"{HERE}.big")["UploadId"]
        self.zoo.told.add(upload)
        self.objects = {
            "Bucket": f"{HERE}-bucket", "Key": f"{HERE}.txt", "CopySource": f"{HERE}-bucket/{HERE}.txt",
            "UploadId": upload, "PartNumber": 1, "Body": b"x",
        }  # fmt: skip
        self.before = self.everything(self.one, self.zoo.named)
        for answer in self.before.values():
            self.zoo.tell(answer)
        # What everybody has, such as the policies of AWS's own.
        fresh = "\n".join(texts(list(self.everything(Tenant(door, "fresh"), {}).values())))
        self.zoo.told = {text for text in self.zoo.told if text not in fresh}

    def everything(self, tenant: Tenant, named: dict[str, str]) -> dict[tuple[str, str], Any]:
        """What an account finds of its own; not what changes by being looked at."""
        found = {}
        for service, operation in BUILT:
            if reads(service, operation) and service != "cloudtrail" and "LastUsed" not in operation:
                given = request(SERVICES[service].input(operation), named, 0, optional=False)
                answer = tenant.call(service, operation, given)
                found[service, operation] = {} if "Error" in answer else answer
        return found

    def secrets(self, answer: Any) -> list[str]:
        """What an answer to the other account says of the one, and that account did not say itself."""
        said = "\n".join(texts(answer))
        return [text for text in self.zoo.told if text in said and text not in self.other.sent]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with started(tmp_path_factory.mktemp("tenants")) as door:
        yield Two(door)


def test_the_one_sees_its_own(two: Two) -> None:
    """Or nothing below would show anything."""
    shown = [place for place, answer in two.before.items() if HERE in "\n".join(texts(answer))]
    assert len({service for service, _ in shown}) >= 6, shown
    assert len(shown) >= 30, shown


@pytest.mark.parametrize(("service", "operation"), [each for each in BUILT if reads(*each)])
def test_what_is_listed_is_one_s_own(two: Two, service: str, operation: str) -> None:
    given = request(SERVICES[service].input(operation), {}, 0, optional=False)
    answer = two.other.call(service, operation, given)
    assert not two.secrets(answer), given
    assert HERE not in "\n".join(texts(answer))


def ordered() -> list[tuple[str, str]]:
    """Reads first, and what makes something last."""
    makes = re.compile("Create|Put|Register|Add|Tag|Attach|Set|Enable|Import|Upload")
    return sorted(BUILT, key=lambda each: (not reads(*each), bool(makes.match(each[1])), each))


def test_what_another_has_is_as_what_nobody_has(two: Two) -> None:
    """Every operation, with the other account's names, ARNs and ids, and with ones that there are not."""
    there, nowhere = two.zoo.named, elsewhere(two.zoo.named)
    compared = 0
    for service, operation in ordered():
        shape = SERVICES[service].input(operation)
        pairs = [[request(shape, names, 1, optional=more) for names in (there, nowhere)] for more in (True, False)]
        for asked in pairs[: 1 if pairs[0] == pairs[1] else 2]:
            if asked[0] == asked[1]:
                continue
            compared += 1
            answers = [two.other.call(service, operation, each) for each in asked]
            assert _plain(answers[0], there) == _plain(answers[1], nowhere), (service, operation, asked[0])
            assert not two.secrets(answers[0]), (service, operation)
    assert compared > 150
    after = two.everything(two.one, two.zoo.named)
    looks = re.compile("List|Describe|Get(?!SessionToken)|Search|Filter")
    assert {place: found for place, found in after.items() if looks.match(place[1])} == {
        place: found for place, found in two.before.items() if looks.match(place[1])
    }


def _plain(answer: dict[str, Any], names: dict[str, str]) -> Any:
    """An error with the names out of it; of an answer, which ids make another each time, what it has."""
    if "Error" not in answer:
        return sorted(answer)
    text = json.dumps(answer)
    whole = [json.dumps(name)[1:-1] for name in names.values()]
    tails = [name.rpartition("/")[2] for name in names.values()]
    numbers = re.findall(r"\b\d{12}\b", "\n".join(names.values()))
    for part in (*sorted(whole, key=len, reverse=True), *sorted(tails, key=len, reverse=True), *numbers):
        text = text.replace(part, "NAME") if len(part) > 3 else text
    return text.replace(HERE, "NAME").replace(NOWHERE, "NAME")


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_objects_and_buckets_of_another_are_as_none(two: Two, operation: str) -> None:
    if operation == "CreateBucket":
        return
    shape = MODEL.operation_model(operation).input_shape
    needed = [name for name in shape.required_members if name in two.objects] if shape is not None else []
    answers = []
    for word in (HERE, NOWHERE):
        given = {name: _renamed(two.objects[name], word) for name in needed}
        if operation == "DeleteObjects":
            given["Delete"] = {"Objects": [{"Key": f"{word}.txt"}]}
        if operation == "CompleteMultipartUpload":
            given["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}
        if operation == "PutObjectTagging":
            given["Tagging"] = {"TagSet": []}
        if operation == "PutBucketEncryption":
            rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            given["ServerSideEncryptionConfiguration"] = {"Rules": [rule]}
        answers.append(two.other.call("s3", operation, given))
    assert _plain(answers[0], {}) == _plain(answers[1], {})
    assert ("Error" in answers[0]) == (operation != "ListBuckets"), answers[0]
    assert not two.secrets(answers[0])


def _renamed(value: Any, word: str) -> Any:
    return value.replace(HERE, word) if isinstance(value, str) else value


def test_a_bucket_s_name_is_one_account_s_own(two: Two) -> None:
    """No error tells that another account has it; each gets its own objects."""
    given = {"Bucket": f"{HERE}-bucket", "Key": f"{HERE}.txt"}
    third = Tenant(two.door, "third")
    assert "Error" not in third.call("s3", "CreateBucket", {"Bucket": f"{HERE}-bucket"})
    assert third.call("s3", "ListObjectsV2", {"Bucket": f"{HERE}-bucket"}).get("KeyCount") == 0
    third.call("s3", "PutObject", {**given, "Body": b"third"})
    assert third.call("s3", "GetObject", given)["Body"] == "third"
    assert two.one.call("s3", "GetObject", given)["Body"] == HERE
    assert [each["Name"] for each in third.call("s3", "ListBuckets", {})["Buckets"]] == [f"{HERE}-bucket"]
    assert not (two.door.client("s3").list_buckets()["Buckets"])


def test_what_one_encrypted_opens_for_no_other(two: Two) -> None:
    made = two.one.call("kms", "Encrypt", {"KeyId": f"alias/{HERE}-alias", "Plaintext": b"x"})["CiphertextBlob"]
    mine = two.other.call("kms", "CreateKey", {})["KeyMetadata"]["KeyId"]
    gone = two.other.call("kms", "Encrypt", {"KeyId": mine, "Plaintext": b"x"})["CiphertextBlob"]
    third = Tenant(two.door, "keys")
    answers = [third.call("kms", "Decrypt", {"CiphertextBlob": blob}) for blob in (made, gone)]
    assert answers[0] == answers[1]
    assert answers[0]["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize("path", [
    "/", "/v1/models", "/v1/models/{}", "/hearth/endpoints", "/hearth/endpoints/{}", "/hearth/events?limit=1000",
    "/metrics",
])  # fmt: skip
def test_hearth_s_own_routes_show_one_s_own(two: Two, path: str) -> None:
    door = two.door
    assert path == "/metrics" or CHAT in door.get(path.format(CHAT), two.one.api_key).text
    shown = door.get(path.format(CHAT), two.other.api_key)
    nowhere = door.get(path.format(CHAT.replace(HERE, NOWHERE)), two.other.api_key)
    assert (shown.status_code, _plain({"Error": shown.text}, {})) == (
        nowhere.status_code, _plain({"Error": nowhere.text}, {}),
    ) or path in ("/metrics", "/", "/v1/models")  # fmt: skip
    assert two.one.number not in shown.text
    if "{}" not in path:
        assert not [text for text in two.zoo.told if text in shown.text and text not in two.other.sent]


@pytest.mark.parametrize("path", [
    "/endpoints/{}/invocations", "/endpoints/{}/invocations-response-stream", "/endpoints/{}/async-invocations",
    "/endpoints/{}/openai/v1/completions", "/v1/completions", "/v1/chat/completions",
])  # fmt: skip
@pytest.mark.parametrize("key", ["api key", "wrong", "none"])
def test_an_endpoint_of_another_is_as_one_that_is_not_there(two: Two, path: str, key: str) -> None:
    given = {"api key": two.other.api_key, "wrong": two.other.api_key + "x", "none": ""}[key]
    answers = []
    for word in (HERE, NOWHERE):
        name = CHAT.replace(HERE, word)
        body = json.dumps({"inputs": "one", "model": name, "prompt": "one"})
        headers = {"content-type": "application/json", "x-request-id": "r"}
        headers |= {"authorization": f"Bearer {given}"} if given else {}
        reply = httpx.post(two.door.url + path.format(name), content=body, headers=headers, trust_env=False)
        kept = {name: value for name, value in reply.headers.items() if name != "date"}
        answers.append((reply.status_code, reply.text.replace(name, "NAME"), kept))
    assert answers[0] == answers[1]
    assert answers[0][0] == (404 if "/v1/" in path else 400) if key == "api key" else answers[0][0] in (401, 403)
    assert two.one.number not in answers[0][1]


def test_signed_calls_of_another_s_endpoint_too(two: Two) -> None:
    runtime = two.door.client("sagemaker-runtime", two.other.keys)
    said = [
        refused(runtime.invoke_endpoint, EndpointName=CHAT.replace(HERE, word), Body=BODY) for word in (HERE, NOWHERE)
    ]
    assert said[0][:2] == said[1][:2] == ("ValidationError", 400)
    assert said[0][2] == f"Endpoint {CHAT} of account {two.other.number} not found."
    assert said[1][2].replace(NOWHERE, HERE) == said[0][2]


def test_who_may_not_invoke_is_told_that_of_both(two: Two) -> None:
    """Not being there is told to none who may not ask."""
    iam = two.door.client("iam", two.other.keys)
    iam.create_user(UserName="mute")
    iam.put_user_policy(UserName="mute", PolicyName="own", PolicyDocument=policy(allow("s3:*")))
    runtime = two.door.client("sagemaker-runtime", Keys.of(iam.create_access_key(UserName="mute")["AccessKey"]))
    said = [
        refused(runtime.invoke_endpoint, EndpointName=CHAT.replace(HERE, word), Body=BODY) for word in (HERE, NOWHERE)
    ]
    assert said[0][0] == said[1][0] == "AccessDeniedException"
    assert said[1][2].replace(NOWHERE, HERE) == said[0][2]


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_organizations_make_an_account_and_its_manager_s_role_leads_in(two: Two) -> None:
    door = two.door
    organizations = door.client("organizations")
    made = organizations.create_account(Email="a@b.example", AccountName="made")["CreateAccountStatus"]
    assert made["State"] == "SUCCEEDED"
    asked = organizations.describe_create_account_status(CreateAccountRequestId=made["Id"])
    number = made["AccountId"]
    assert asked["CreateAccountStatus"]["AccountId"] == number
    assert organizations.describe_account(AccountId=number)["Account"]["Name"] == "made"
    listed = [each["Id"] for page in organizations.get_paginator("list_accounts").paginate(
        PaginationConfig={"PageSize": 2}) for each in page["Accounts"]]  # fmt: skip
    assert (listed[0], number in listed, len(set(listed))) == (ACCOUNT, True, len(listed))
    again = organizations.create_account(Email="A@b.example", AccountName="again")["CreateAccountStatus"]
    assert (again["State"], again["FailureReason"]) == ("FAILED", "EMAIL_ALREADY_EXISTS")
    arn = f"arn:aws:iam::{number}:role/OrganizationAccountAccessRole"
    manager = door.user("manager", allow("sts:AssumeRole", resource=arn))
    session = door.client("sts", manager).assume_role(RoleArn=arn, RoleSessionName="inside")["Credentials"]
    within = Keys.of(session)
    assert door.client("sts", within).get_caller_identity()["Account"] == number
    door.client("iam", within).create_user(UserName="inside")
    assert not [each for each in door.client("iam").list_users()["Users"] if each["UserName"] == "inside"]
    # Both sides must allow: the role trusts the manager's account alone, and the manager's policies are asked too.
    stranger, idle = door.user("stranger"), two.other.keys
    for keys in (stranger, idle):
        for each in (arn, f"arn:aws:iam::{number}:role/none", "arn:aws:iam::999999999999:role/none"):
            code = refused(door.client("sts", keys).assume_role, RoleArn=each, RoleSessionName="inside")[0]
            assert code == "AccessDenied"


def test_to_all_but_the_manager_there_is_no_organization(two: Two) -> None:
    organizations = two.door.client("organizations", two.other.keys)
    for call, given in (
        ("list_accounts", {}), ("describe_organization", {}), ("describe_account", {"AccountId": two.one.number}),
        ("create_account", {"Email": "x@y.example", "AccountName": "x"}), ("close_account", {"AccountId": ACCOUNT}),
    ):  # fmt: skip
        code, _, message = refused(getattr(organizations, call), **given)
        assert code == "AWSOrganizationsNotInUseException"
        assert message == "Your account is not a member of an organization."


def test_a_closed_account_s_keys_end_at_once_and_come_back(two: Two) -> None:
    door = two.door
    tenant = Tenant(door, "closing")
    door.client("organizations").close_account(AccountId=tenant.number)
    assert tenant.call("sts", "GetCallerIdentity", {})["Error"]["Code"] == "InvalidClientTokenId"
    assert door.get("/v1/models", tenant.api_key).status_code == 401
    code = refused(door.client("organizations").close_account, AccountId=tenant.number)[0]
    assert code == "AccountAlreadyClosedException"
    Accounts(door.store, ACCOUNT).reopen(tenant.number)
    assert tenant.call("sts", "GetCallerIdentity", {})["Account"] == tenant.number


def test_the_own_account_sees_no_other_s(two: Two) -> None:
    """It manages them; what they have it sees through their roles alone."""
    door = two.door
    for service, call in (("sagemaker", "list_endpoints"), ("iam", "list_users"), ("kms", "list_keys"),
                          ("logs", "describe_log_groups"), ("cloudwatch", "describe_alarms")):  # fmt: skip
        assert HERE not in "\n".join(texts(getattr(door.client(service), call)()))
    events = door.client("cloudtrail").lookup_events()["Events"]
    assert not [each for each in events if two.one.number in each["CloudTrailEvent"]]


def test_a_refused_call_is_told_to_whose_key_it_named(two: Two) -> None:
    third = Tenant(two.door, "audited")
    wrong = two.door.client("sagemaker", Keys(third.keys.aws_access_key_id, "x" * 40))
    assert refused(wrong.list_models)[0] == "InvalidSignatureException"
    two.door.client("sts").get_caller_identity()
    seen = two.door.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "AccessKeyId", "AttributeValue": third.keys.aws_access_key_id}]
    )["Events"]
    assert not seen
