"""Disabled keys, keys that are to be deleted, rotation, and a lost master key, with a real boto3 client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.vault.keys import sweep
from server.vault.vault import KEY
from tests.control.conftest import ACCOUNT, REGION
from tests.vault.conftest import Open
from tests.vault.serving import Clock, Control, refused


def uses(kms: Any, key: str, blob: bytes) -> list[Callable[[], Any]]:
    return [
        lambda: kms.encrypt(KeyId=key, Plaintext=b"x"),
        lambda: kms.decrypt(CiphertextBlob=blob),
        lambda: kms.decrypt(CiphertextBlob=blob, KeyId=key),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256"),
        lambda: kms.generate_data_key_without_plaintext(KeyId=key),
        lambda: kms.re_encrypt(CiphertextBlob=blob, DestinationKeyId=key),
        lambda: kms.enable_key_rotation(KeyId=key),
        lambda: kms.disable_key_rotation(KeyId=key),
        lambda: kms.rotate_key_on_demand(KeyId=key),
    ]


def test_a_disabled_key_does_nothing_until_it_is_enabled(kms: Any, key: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key)
    arn = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key}"
    for use in uses(kms, key, blob):
        assert refused(use) == ("DisabledException", f"{arn} is disabled.")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    kms.enable_key(KeyId=key)
    for use in uses(kms, key, blob):
        use()


def test_a_key_that_is_to_be_deleted_does_nothing_until_that_is_cancelled(kms: Any, key: str, clock: Clock) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.create_alias(AliasName="alias/before", TargetKeyId=key)
    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert (answer["KeyState"], answer["PendingWindowInDays"]) == ("PendingDeletion", 7)
    assert abs(answer["DeletionDate"] - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=1)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["DeletionDate"] == answer["DeletionDate"]
    others = [
        lambda: kms.enable_key(KeyId=key),
        lambda: kms.disable_key(KeyId=key),
        lambda: kms.update_key_description(KeyId=key, Description=""),
        lambda: kms.create_alias(AliasName="alias/after", TargetKeyId=key),
        lambda: kms.update_alias(AliasName="alias/before", TargetKeyId=key),
        lambda: kms.tag_resource(KeyId=key, Tags=[]),
        lambda: kms.untag_resource(KeyId=key, TagKeys=[]),
        lambda: kms.get_key_rotation_status(KeyId=key),
        lambda: kms.list_key_rotations(KeyId=key),
        lambda: kms.schedule_key_deletion(KeyId=key),
    ]
    for use in [*uses(kms, key, blob), *others]:
        code, message = refused(use)
        assert (code, message.endswith("is pending deletion.")) == ("KMSInvalidStateException", True)
    clock.ahead = timedelta(days=6, hours=23)
    assert kms.cancel_key_deletion(KeyId=key)["KeyId"].endswith(key)
    found = kms.describe_key(KeyId=key)["KeyMetadata"]
    assert (found["KeyState"], "DeletionDate" in found) == ("Disabled", False)
    assert refused(kms.cancel_key_deletion, KeyId=key)[0] == "KMSInvalidStateException"
    clock.ahead = timedelta(days=60)
    kms.enable_key(KeyId=key)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


@pytest.mark.parametrize("days", [6, 31, 0])
def test_the_window_is_a_week_to_a_month(control: Control, kms: Any, key: str, days: int) -> None:
    unchecked = control.client(checked=False)
    assert refused(unchecked.schedule_key_deletion, KeyId=key, PendingWindowInDays=days)[0] == "ValidationException"
    assert kms.schedule_key_deletion(KeyId=key)["PendingWindowInDays"] == 30


def destroyed(start: Open, key: str) -> bool:
    """Nothing of the key is left in the store's tables."""
    store = start().store(ACCOUNT, REGION)
    with store.session() as session:
        rows = session.connection().exec_driver_sql("SELECT document || name FROM resources").scalars()
        return not any(key in row for row in rows)


@pytest.mark.parametrize("trigger", ["use", "describe", "list", "alias", "start"])
def test_after_its_window_a_key_is_gone_for_good(kms: Any, key: str, clock: Clock, start: Open, trigger: str) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    clock.ahead = timedelta(days=6, hours=23)
    assert sweep(start()) == 0
    assert not destroyed(start, key)
    clock.ahead = timedelta(days=7, minutes=1)
    if trigger == "use":
        assert refused(kms.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"
    elif trigger == "describe":
        assert refused(kms.cancel_key_deletion, KeyId=key)[0] == "NotFoundException"
    elif trigger == "list":
        assert kms.list_keys()["Keys"] == []
    elif trigger == "alias":
        assert refused(kms.describe_key, KeyId="alias/mine")[0] == "NotFoundException"
    else:
        assert sweep(start()) == 1
    assert destroyed(start, key)
    assert kms.list_aliases()["Aliases"] == []
    clock.ahead = timedelta()
    assert refused(kms.decrypt, CiphertextBlob=blob)[0] == "AccessDeniedException"


def test_rotation_on_demand_keeps_what_was_encrypted_before(kms: Any, key: str) -> None:
    blobs = []
    for _ in range(3):
        blobs.append(kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"])
        kms.rotate_key_on_demand(KeyId=key)
    opened = [kms.decrypt(CiphertextBlob=blob) for blob in blobs]
    assert [answer["Plaintext"] for answer in opened] == [b"x"] * 3
    materials = [answer["KeyMaterialId"] for answer in opened]
    assert len(set(materials)) == 3
    rotations = kms.list_key_rotations(KeyId=key)["Rotations"]
    assert [rotation["RotationType"] for rotation in rotations] == ["ON_DEMAND"] * 3
    every = kms.get_paginator("list_key_rotations").paginate(
        KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL", PaginationConfig={"PageSize": 3}
    )
    found = every.build_full_result()["Rotations"]
    current = kms.describe_key(KeyId=key)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert [rotation["KeyMaterialId"] for rotation in found] == [*materials, current]
    assert [rotation["KeyMaterialState"] for rotation in found] == ["NON_CURRENT"] * 3 + ["CURRENT"]


def test_a_key_is_rotated_on_demand_25_times(kms: Any, key: str) -> None:
    for _ in range(25):
        kms.rotate_key_on_demand(KeyId=key)
    assert refused(kms.rotate_key_on_demand, KeyId=key)[0] == "LimitExceededException"


def test_rotation_by_time(control: Control, kms: Any, key: str, clock: Clock) -> None:
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=key)
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    first = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    clock.ahead = timedelta(days=89)
    kms.encrypt(KeyId=key, Plaintext=b"x")
    assert kms.list_key_rotations(KeyId=key)["Rotations"] == []
    clock.ahead = timedelta(days=91)
    second = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    (rotation,) = kms.list_key_rotations(KeyId=key)["Rotations"]
    assert rotation["RotationType"] == "AUTOMATIC"
    materials = [kms.decrypt(CiphertextBlob=blob)["KeyMaterialId"] for blob in (first, second)]
    assert materials[0] != materials[1]
    assert kms.get_key_rotation_status(KeyId=key)["NextRotationDate"] > status["NextRotationDate"]
    kms.disable_key_rotation(KeyId=key)
    clock.ahead = timedelta(days=900)
    kms.encrypt(KeyId=key, Plaintext=b"x")
    assert len(kms.list_key_rotations(KeyId=key)["Rotations"]) == 1
    unchecked = control.client(checked=False)
    for days in (89, 2561):
        code, _ = refused(unchecked.enable_key_rotation, KeyId=key, RotationPeriodInDays=days)
        assert code == "ValidationException"


def test_a_new_master_key_opens_what_the_old_one_sealed(kms: Any, key: str, start: Open, serve: Any) -> None:
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    master, count = start().rotate()
    assert count == 1
    for client in (kms, serve().client()):
        assert client.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
        client.create_key()
    rows = start().store(ACCOUNT, REGION).find(KEY)
    assert len(rows) == 3
    assert start().reseal() == 0, f"not under {master.id}"


def test_a_lost_master_key_is_an_error_that_says_so(serve: Any, key_file: Path) -> None:
    kms = serve().client()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    kept = key_file.read_bytes()
    key_file.unlink()
    later: Control = serve()
    kms = later.client()
    for use in [*uses(kms, key, blob)[:6], kms.create_key]:
        code, message = refused(use)
        assert (code, str(key_file) in message, "backup" in message) == ("InternalFailure", True, True)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    assert not key_file.exists()
    key_file.touch(mode=0o600)
    key_file.write_bytes(kept)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
