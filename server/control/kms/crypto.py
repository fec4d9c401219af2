"""Encrypt and Decrypt, data keys, random bytes."""

from __future__ import annotations

import os

from server.control.kms.service import ALGORITHM, KMS, check_dry_run, material, refuse_unbuilt
from server.control.operations import Answer, Context, Request
from server.errors import BadRequest

_SPECS = {"AES_256": 32, "AES_128": 16}


@KMS.operation
def encrypt(context: Context, request: Request) -> Answer:
    _check(request)
    if request.get("DryRun"):
        context.keys.usable(request["KeyId"])
        check_dry_run(request)
    blob, found = context.keys.encrypt(request["KeyId"], request["Plaintext"], request.get("EncryptionContext", {}))
    return {"CiphertextBlob": blob, "KeyId": found.arn, "EncryptionAlgorithm": ALGORITHM}


@KMS.operation
def decrypt(context: Context, request: Request) -> Answer:
    _check(request, "Recipient", "DryRunModifiers")
    value, found, backing = context.keys.decrypt(
        _blob(request), request.get("EncryptionContext", {}), request.get("KeyId")
    )
    check_dry_run(request)
    return {
        "KeyId": found.arn, "Plaintext": value, "EncryptionAlgorithm": ALGORITHM,
        "KeyMaterialId": material(backing.hex()),
    }  # fmt: skip


@KMS.operation
def re_encrypt(context: Context, request: Request) -> Answer:
    _check(request, "DryRunModifiers")
    value, source, backing = context.keys.decrypt(
        _blob(request), request.get("SourceEncryptionContext", {}), request.get("SourceKeyId")
    )
    wanted = request["DestinationKeyId"]
    if request.get("DryRun"):
        context.keys.usable(wanted)
        check_dry_run(request)
    blob, found = context.keys.encrypt(wanted, value, request.get("DestinationEncryptionContext", {}))
    return {
        "CiphertextBlob": blob, "SourceKeyId": source.arn, "KeyId": found.arn,
        "SourceEncryptionAlgorithm": ALGORITHM, "DestinationEncryptionAlgorithm": ALGORITHM,
        "SourceKeyMaterialId": material(backing.hex()),
        "DestinationKeyMaterialId": material(found.document["Backing"][-1]["Id"]),
    }  # fmt: skip


@KMS.operation
def generate_data_key(context: Context, request: Request) -> Answer:
    _check(request, "Recipient")
    if ("KeySpec" in request) == ("NumberOfBytes" in request):
        raise BadRequest("Please specify either number of bytes or key spec.")
    return _data_key(context, request)


@KMS.operation
def generate_data_key_without_plaintext(context: Context, request: Request) -> Answer:
    _check(request)
    if "KeySpec" in request and "NumberOfBytes" in request:
        raise BadRequest("Please specify either number of bytes or key spec.")
    return {name: value for name, value in _data_key(context, request).items() if name != "Plaintext"}


def _data_key(context: Context, request: Request) -> Answer:
    if request.get("DryRun"):
        context.keys.usable(request["KeyId"])
        check_dry_run(request)
    key = os.urandom(request.get("NumberOfBytes") or _SPECS[request.get("KeySpec", "AES_256")])
    blob, found = context.keys.encrypt(request["KeyId"], key, request.get("EncryptionContext", {}))
    return {
        "CiphertextBlob": blob, "Plaintext": key, "KeyId": found.arn,
        "KeyMaterialId": material(found.document["Backing"][-1]["Id"]),
    }  # fmt: skip


@KMS.operation
def generate_random(_context: Context, request: Request) -> Answer:
    refuse_unbuilt(request, "CustomKeyStoreId", "Recipient")
    if "NumberOfBytes" not in request:
        raise BadRequest("NumberOfBytes is required.", field="numberOfBytes")
    return {"Plaintext": os.urandom(request["NumberOfBytes"])}


def _check(request: Request, *unbuilt: str) -> None:
    refuse_unbuilt(request, "GrantTokens", *unbuilt)
    for name in ("EncryptionAlgorithm", "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"):
        if request.get(name, ALGORITHM) != ALGORITHM:
            raise BadRequest(f"{name} must be {ALGORITHM} for a symmetric key.", field=name)


def _blob(request: Request) -> bytes:
    if "CiphertextBlob" not in request:
        raise BadRequest("CiphertextBlob is required.", field="ciphertextBlob")
    return bytes(request["CiphertextBlob"])
