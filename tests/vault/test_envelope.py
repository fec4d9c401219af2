"""Envelopes and the box of secrets: what was changed or moved does not open."""

from __future__ import annotations

import base64
import os
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import SealBroken
from server.vault.envelope import OVERHEAD_BYTES, Context, decrypt, encoded, encrypt, read
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

CONTEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)
KEY, BACKING, SECRET = uuid4(), os.urandom(16), os.urandom(32)


@given(st.binary(max_size=5000), CONTEXTS)
def test_a_value_comes_back(value: bytes, context: Context) -> None:
    blob = encrypt(KEY, BACKING, SECRET, value, context)
    assert len(blob) == len(value) + OVERHEAD_BYTES
    envelope = read(blob)
    assert (envelope.key, envelope.backing) == (KEY, BACKING)
    assert decrypt(envelope, SECRET, dict(reversed(list(context.items())))) == value


@given(CONTEXTS, CONTEXTS)
def test_no_two_contexts_are_the_same_bytes(one: Context, other: Context) -> None:
    assert (encoded(one) == encoded(other)) == (one == other)


@given(st.binary(max_size=40), st.data())
def test_a_changed_byte_does_not_open(value: bytes, data: st.DataObject) -> None:
    blob = bytearray(encrypt(KEY, BACKING, SECRET, value, {"a": "b"}))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        decrypt(read(bytes(blob)), SECRET, {"a": "b"})


@given(st.binary(max_size=40), st.data())
def test_a_cut_value_does_not_open(value: bytes, data: st.DataObject) -> None:
    blob = encrypt(KEY, BACKING, SECRET, value, {})
    with pytest.raises(SealBroken):
        decrypt(read(blob[: data.draw(st.integers(0, len(blob) - 1))]), SECRET, {})


def test_the_same_value_never_looks_the_same() -> None:
    assert len({encrypt(KEY, BACKING, SECRET, b"v", {}) for _ in range(100)}) == 100


def test_a_secret_opens_with_its_own_context_only(vault: Vault) -> None:
    box = SecretBox(vault)
    sealed = box.seal(b"secret", {"kind": "AccessKey", "id": "1"})
    assert "secret" not in sealed
    assert box.open(sealed, {"id": "1", "kind": "AccessKey"}) == b"secret"
    for other in ({}, {"kind": "AccessKey", "id": "2"}, {"kind": "AccessKey"}):
        with pytest.raises(SealBroken):
            box.open(sealed, other)


OTHERS = base64.b64encode(b"1" * 200).decode()


@pytest.mark.parametrize("text", ["", "sealed:", "sealed:%%", "plain", f"sealed:{OTHERS}"])
def test_what_is_no_sealed_secret_is_an_error_of_ours(vault: Vault, text: str) -> None:
    with pytest.raises(SealBroken):
        SecretBox(vault).open(text, {})
