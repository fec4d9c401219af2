"""KMS with a real boto3 client: keys, aliases, ciphertexts, policies, tags, pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.control.conftest import ACCOUNT, REGION
from tests.vault.serving import Clock, Control, refused

CONTEXT = {"purpose": "test", "who": "häns"}


def test_a_key_is_described_by_every_name_it_has(kms: Any, key: str) -> None:
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
    found = kms.describe_key(KeyId=key)["KeyMetadata"]
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}"
    assert found["Arn"] == f"{arn}:key/{key}"
    assert (found["KeyState"], found["Enabled"], found["Description"]) == ("Enabled", True, "of a test")
    assert (found["KeySpec"], found["KeyUsage"], found["Origin"]) == (
        "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS",
    )  # fmt: skip
    assert (found["KeyManager"], found["AWSAccountId"], found["MultiRegion"]) == ("CUSTOMER", ACCOUNT, False)
    for name in (found["Arn"], "alias/mine", f"{arn}:alias/mine"):
        assert kms.describe_key(KeyId=name)["KeyMetadata"] == found
    kms.update_key_description(KeyId=key, Description="another")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == "another"


@pytest.mark.parametrize("plaintext", [b"x", bytes(4096), "zwölf".encode()])
@pytest.mark.parametrize("context", [{}, CONTEXT])
def test_what_was_encrypted_is_decrypted(kms: Any, key: str, plaintext: bytes, context: dict[str, str]) -> None:
    sealed = kms.encrypt(KeyId=key, Plaintext=plaintext, EncryptionContext=context)
    assert sealed["KeyId"].endswith(key)
    assert plaintext not in sealed["CiphertextBlob"] or len(plaintext) == 1
    for named in ({}, {"KeyId": key}):
        opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context, **named)
        assert (opened["Plaintext"], opened["KeyId"]) == (plaintext, sealed["KeyId"])
        assert (opened["EncryptionAlgorithm"], len(opened["KeyMaterialId"])) == ("SYMMETRIC_DEFAULT", 64)


def test_a_ciphertext_opens_after_a_restart(serve: Any) -> None:
    kms = serve().client()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"value")["CiphertextBlob"]
    assert serve().client().decrypt(CiphertextBlob=blob)["Plaintext"] == b"value"


OTHERS = [{}, {"purpose": "test"}, {**CONTEXT, "more": ""}, {"purpose": "who", "who": "test"}]


@pytest.mark.parametrize("context", OTHERS)
def test_another_context_does_not_open(kms: Any, key: str, context: dict[str, str]) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    assert refused(kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)[0] == "InvalidCiphertextException"


def test_a_tampered_ciphertext_does_not_open(kms: Any, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"some value")["CiphertextBlob"]
    for place in range(0, len(blob), 5):
        changed = bytearray(blob)
        changed[place] ^= 0x40
        wanted = "AccessDeniedException" if 1 <= place < 17 else "InvalidCiphertextException"
        assert refused(kms.decrypt, CiphertextBlob=bytes(changed))[0] == wanted
    for cut in (blob[:-1], blob[:20], b"x", blob + b"x"):
        assert refused(kms.decrypt, CiphertextBlob=cut)[0] == "InvalidCiphertextException"


def test_another_key_does_not_open(kms: Any, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    assert refused(kms.decrypt, CiphertextBlob=blob, KeyId=other)[0] == "IncorrectKeyException"


def test_another_region_has_other_keys(control: Control, kms: Any, key: str) -> None:
    far = control.client(region="eu-central-1")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    assert refused(far.describe_key, KeyId=key) == (
        "NotFoundException", f"Key 'arn:aws:kms:eu-central-1:{ACCOUNT}:key/{key}' does not exist",
    )  # fmt: skip
    assert refused(far.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    arn = kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    assert refused(far.describe_key, KeyId=arn) == ("NotFoundException", f"Invalid arn {REGION}")


def test_keys_of_another_account_are_neither_there_nor_not(kms: Any, key: str) -> None:
    for id in (key, "11111111-2222-3333-4444-555555555555"):
        code, message = refused(kms.encrypt, KeyId=f"arn:aws:kms:{REGION}:999999999999:key/{id}", Plaintext=b"x")
        assert (code, "not authorized" in message) == ("AccessDeniedException", True)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("11111111-2222-3333-4444-555555555555", "does not exist"),
        ("nonsense", "Invalid keyId 'nonsense'"),
        ("alias/absent", f"Alias arn:aws:kms:{REGION}:{ACCOUNT}:alias/absent is not found."),
        ("arn:aws:kms:nonsense", "Invalid arn"),
        ("arn:aws:s3:::bucket", "Invalid arn"),
    ],
)
def test_no_such_key(kms: Any, named: str, message: str) -> None:
    for call in (kms.describe_key, kms.generate_data_key_without_plaintext):
        code, said = refused(call, KeyId=named)
        assert (code, message in said) == ("NotFoundException", True)


def test_data_keys_open(kms: Any, key: str) -> None:
    for asked, size in (({"KeySpec": "AES_256"}, 32), ({"KeySpec": "AES_128"}, 16), ({"NumberOfBytes": 77}, 77)):
        made = kms.generate_data_key(KeyId=key, EncryptionContext=CONTEXT, **asked)
        assert len(made["Plaintext"]) == size
        opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
        assert opened["Plaintext"] == made["Plaintext"]
    hidden = kms.generate_data_key_without_plaintext(KeyId=key)
    assert "Plaintext" not in hidden
    assert len(kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]) == 32
    for wrong in ({}, {"KeySpec": "AES_256", "NumberOfBytes": 32}):
        assert refused(kms.generate_data_key, KeyId=key, **wrong)[0] == "ValidationException"


def test_re_encrypting_changes_key_and_context(kms: Any, key: str) -> None:
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    moved = kms.re_encrypt(
        CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, DestinationKeyId=other,
        DestinationEncryptionContext={"new": "1"},
    )  # fmt: skip
    assert (moved["SourceKeyId"].endswith(key), moved["KeyId"].endswith(other)) == (True, True)
    kms.disable_key(KeyId=key)
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"new": "1"})
    assert opened["Plaintext"] == b"x"


def test_a_dry_run_does_nothing(kms: Any, key: str) -> None:
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True)[0] == "DryRunOperationException"
    kms.disable_key(KeyId=key)
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True)[0] == "DisabledException"


def test_random_bytes(kms: Any) -> None:
    assert len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024
    assert refused(kms.generate_random)[0] == "ValidationException"


@pytest.mark.parametrize(
    "asked",
    [
        {"KeySpec": "RSA_2048"}, {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
        {"CustomerMasterKeySpec": "ECC_NIST_P256"}, {"KeyUsage": "SIGN_VERIFY"}, {"Origin": "EXTERNAL"},
        {"MultiRegion": True}, {"CustomKeyStoreId": "cks-1"},
    ],
)  # fmt: skip
def test_other_kinds_of_keys_are_refused(kms: Any, asked: dict[str, Any]) -> None:
    assert refused(kms.create_key, **asked)[0] == "UnsupportedOperationException"
    assert kms.list_keys()["Keys"] == []


def test_aliases_move(kms: Any, key: str) -> None:
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app/one", TargetKeyId=key)
    code, message = refused(kms.create_alias, AliasName="alias/app/one", TargetKeyId=other)
    assert (code, "already exists" in message) == ("AlreadyExistsException", True)
    blob = kms.encrypt(KeyId="alias/app/one", Plaintext=b"x")["CiphertextBlob"]
    kms.update_alias(AliasName="alias/app/one", TargetKeyId=other)
    assert kms.encrypt(KeyId="alias/app/one", Plaintext=b"x")["KeyId"].endswith(other)
    assert kms.decrypt(CiphertextBlob=blob)["KeyId"].endswith(key)
    assert kms.list_aliases(KeyId=key)["Aliases"] == []
    (listed,) = kms.list_aliases(KeyId=other)["Aliases"]
    assert (listed["AliasName"], listed["TargetKeyId"]) == ("alias/app/one", other)
    kms.delete_alias(AliasName="alias/app/one")
    for call in (kms.delete_alias, lambda **name: kms.update_alias(**name, TargetKeyId=key)):
        assert refused(call, AliasName="alias/app/one")[0] == "NotFoundException"


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        ("mine", "ValidationException"), ("alias/", "InvalidAliasNameException"),
        ("alias/a:b", "InvalidAliasNameException"), ("alias/aws/mine", "NotAuthorizedException"),
        ("alias/ä", "ValidationException"),
    ],
)  # fmt: skip
def test_aliases_have_names(kms: Any, key: str, alias: str, code: str) -> None:
    assert refused(kms.create_alias, AliasName=alias, TargetKeyId=key)[0] == code


def test_a_service_s_own_key_is_made_when_it_is_used(kms: Any) -> None:
    blob = kms.encrypt(KeyId="alias/aws/sagemaker", Plaintext=b"x")["CiphertextBlob"]
    found = kms.describe_key(KeyId="alias/aws/sagemaker")["KeyMetadata"]
    assert found["KeyManager"] == "AWS"
    assert kms.decrypt(CiphertextBlob=blob)["KeyId"] == found["Arn"]
    for call in (kms.disable_key, kms.schedule_key_deletion):
        assert refused(call, KeyId=found["KeyId"])[0] == "AccessDeniedException"
    assert len(kms.list_keys()["Keys"]) == 1


def test_where_an_alias_does_not_do(kms: Any, key: str) -> None:
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
    for call in (kms.disable_key, kms.schedule_key_deletion, kms.enable_key_rotation, kms.get_key_policy):
        assert refused(call, KeyId="alias/mine")[0] == "NotFoundException"


def test_lists_come_in_pages(kms: Any) -> None:
    keys = {kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(5)}
    for number, key in enumerate(sorted(keys)):
        kms.create_alias(AliasName=f"alias/n{number}", TargetKeyId=key)
    pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(page["Keys"]) for page in pages] == [2, 2, 1]
    assert {key["KeyId"] for page in pages for key in page["Keys"]} == keys
    found = kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2}).build_full_result()
    assert [alias["AliasName"] for alias in found["Aliases"]] == [f"alias/n{number}" for number in range(5)]
    marker = pages[0]["NextMarker"]
    for call in (kms.list_aliases, lambda **given: kms.list_resource_tags(**given, KeyId=next(iter(keys)))):
        assert refused(call, Marker=marker)[0] == "InvalidMarkerException"


def test_policies(kms: Any, key: str) -> None:
    usual = json.loads(kms.get_key_policy(KeyId=key)["Policy"])
    assert usual["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    own = json.dumps({**usual, "Id": "own"})
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=own)
    assert kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"] == own
    assert kms.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]
    assert refused(kms.get_key_policy, KeyId=key, PolicyName="other")[0] == "NotFoundException"
    for bad in ("{", "[]", "{}", '{"Statement": []}', '{"Statement": [{"Effect": "Perhaps"}]}', "[" * 9999):
        assert refused(kms.put_key_policy, KeyId=key, Policy=bad)[0] == "MalformedPolicyDocumentException"
        assert refused(kms.create_key, Policy=bad)[0] == "MalformedPolicyDocumentException"
    made = kms.create_key(Policy=own)["KeyMetadata"]["KeyId"]
    assert kms.get_key_policy(KeyId=made)["Policy"] == own


def test_tags(kms: Any) -> None:
    def pair(key: str, value: str) -> dict[str, str]:
        return {"TagKey": key, "TagValue": value}

    key = kms.create_key(Tags=[pair("a", "1"), pair("b", "2")])["KeyMetadata"]["KeyId"]
    kms.tag_resource(KeyId=key, Tags=[pair("b", "3"), pair("c", "4")])
    kms.untag_resource(KeyId=key, TagKeys=["a", "absent"])
    found = kms.get_paginator("list_resource_tags").paginate(KeyId=key, PaginationConfig={"PageSize": 1})
    assert found.build_full_result()["Tags"] == [pair("b", "3"), pair("c", "4")]
    for bad in ([pair("x", "1"), pair("x", "2")], [pair("aws:x", "1")]):
        assert refused(kms.tag_resource, KeyId=key, Tags=bad)[0] == "TagException"
    many = [pair(f"k{number}", "") for number in range(50)]
    assert refused(kms.tag_resource, KeyId=key, Tags=many)[0] == "LimitExceededException"


def test_nothing_secret_is_shown(control: Control, kms: Any, key: str) -> None:
    for answer in (kms.describe_key(KeyId=key), kms.list_keys(), kms.list_key_rotations(KeyId=key)):
        assert "Sealed" not in str(answer)
        assert "Backing" not in str(answer)


def test_a_key_that_a_configuration_names_must_be_there(control: Control, kms: Any, key: str, clock: Clock) -> None:
    sagemaker = control.client("sagemaker")
    sagemaker.create_model(
        ModelName="m", PrimaryContainer={"Image": "hearth/llm"}, ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/r"
    )
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
    arn = kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    for number, named in enumerate((key, arn, "alias/mine", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/mine", "")):
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"c{number}", ProductionVariants=[variant], KmsKeyId=named
        )  # fmt: skip
    capture = {
        "InitialSamplingPercentage": 1, "DestinationS3Uri": "s3://b/c", "KmsKeyId": "alias/absent",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }  # fmt: skip
    new: dict[str, Any] = {"EndpointConfigName": "new", "ProductionVariants": [variant]}
    for bad in ({"KmsKeyId": "alias/absent"}, {"DataCaptureConfig": capture}):
        code, message = refused(sagemaker.create_endpoint_config, **new, **bad)
        assert (code, "alias/absent" in message) == ("ValidationException", True)
    kms.disable_key(KeyId=key)
    assert "disabled" in refused(sagemaker.create_endpoint_config, **new, KmsKeyId=key)[1]
    assert refused(sagemaker.describe_endpoint_config, EndpointConfigName="new")[0] == "ValidationException"
