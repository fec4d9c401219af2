"""The file of master keys: made once, rotated whole, never silently replaced."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server.errors import VaultLocked
from server.vault.keyring import Keyring, MasterKey
from server.vault.secret_box import SecretBox
from server.vault.vault import KEY, SYSTEM_KEY, Vault, master_of
from tests.vault.conftest import Open

CONTEXT = {"kind": "AccessKey", "id": "AKIA1"}


def backing(vault: Vault) -> list[dict[str, Any]]:
    rows = [row for kind in (KEY, SYSTEM_KEY) for row in vault.system.find(kind)]
    return [entry for row in rows for entry in row.document["Backing"]]


def test_the_file_is_made_when_it_is_first_needed(start: Open, key_file: Path) -> None:
    start().check()
    assert not key_file.exists()
    sealed = SecretBox(start()).seal(b"secret", CONTEXT)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    assert SecretBox(start()).open(sealed, CONTEXT) == b"secret"
    start().check()


@pytest.mark.parametrize("use", ["open", "seal", "check"])
def test_a_lost_file_is_an_error_that_names_it(start: Open, key_file: Path, use: str) -> None:
    sealed = SecretBox(start()).seal(b"secret", CONTEXT)
    key_file.unlink()
    later = start()
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: SecretBox(later).open(sealed, CONTEXT),
        "seal": lambda: SecretBox(later).seal(b"another", CONTEXT),
        "check": later.check,
    }
    with pytest.raises(VaultLocked) as caught:
        calls[use]()
    assert str(key_file) in caught.value.message
    assert "backup" in caught.value.message
    assert not key_file.exists()


def test_a_fresh_file_is_not_taken_for_the_old_one(start: Open, key_file: Path, tmp_path: Path) -> None:
    sealed = SecretBox(start()).seal(b"secret", CONTEXT)
    old = key_file.read_bytes()
    key_file.unlink()
    other = Vault(start().engine, key_file)
    other.keyring._ledger = _Forgetful()
    other.keyring.newest()
    for use in (lambda: SecretBox(start()).seal(b"x", CONTEXT), lambda: SecretBox(start()).open(sealed, CONTEXT)):
        with pytest.raises(VaultLocked, match="not the master key file"):
            use()
    key_file.write_bytes(old)
    assert SecretBox(start()).open(sealed, CONTEXT) == b"secret"


class _Forgetful:
    """A ledger of another Hearth."""

    def ids(self) -> frozenset[str]:
        return frozenset()

    def note(self, key: MasterKey) -> None:
        """Not in this store."""


def corrupted(document: dict[str, Any]) -> list[Any]:
    key = document["keys"][0]
    return [
        "",
        "{",
        "[]",
        "null",
        {},
        {**document, "format": 2},
        {**document, "keys": []},
        {**document, "keys": [{**key, "key": "AAAA"}]},
        {**document, "keys": [{**key, "key": ("B" if key["key"][0] == "A" else "A") + key["key"][1:]}]},
        {**document, "keys": [{**key, "id": "0" * 32}]},
        {**document, "keys": [{**key, "id": 7}]},
        {**document, "keys": [{"id": key["id"], "created": key["created"]}]},
    ]


def test_a_damaged_file_is_an_error_that_says_so(start: Open, key_file: Path) -> None:
    SecretBox(start()).seal(b"secret", CONTEXT)
    for broken in corrupted(json.loads(key_file.read_text())):
        key_file.write_text(broken if isinstance(broken, str) else json.dumps(broken))
        with pytest.raises(VaultLocked) as caught:
            start().check()
        assert str(key_file) in caught.value.message


def test_a_file_that_others_can_read_is_refused(start: Open, key_file: Path) -> None:
    SecretBox(start()).seal(b"secret", CONTEXT)
    key_file.chmod(0o644)
    with pytest.raises(VaultLocked, match="chmod 600"):
        start().check()


def test_a_file_that_cannot_be_made_is_no_traceback(start: Open, key_file: Path) -> None:
    key_file.parent.write_text("a file where the folder should be")
    with pytest.raises(VaultLocked, match="cannot be made"):
        SecretBox(start()).seal(b"secret", CONTEXT)


def test_rotation_seals_again_and_opens_the_old(start: Open, key_file: Path) -> None:
    running = start()
    sealed = SecretBox(running).seal(b"secret", CONTEXT)
    before = key_file.read_bytes()
    master, count = start().rotate()
    assert count == 1
    assert {master_of(entry) for entry in backing(start())} == {master.id}
    assert [key.id for key in start().keyring.all()][-1] == master.id
    for vault in (running, start()):
        assert SecretBox(vault).open(sealed, CONTEXT) == b"secret"
        assert SecretBox(vault).open(SecretBox(vault).seal(b"new", CONTEXT), CONTEXT) == b"new"
    assert running.keyring.newest().id == master.id
    key_file.write_bytes(before)
    with pytest.raises(VaultLocked, match=master.id):
        start().check()


class Killed(BaseException):
    """The process ends here."""


STEPS = ["os.fsync", "path.replace", "note", "_resealed", "replace"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_between_the_steps_of_a_rotation(
    start: Open, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    sealed = SecretBox(start()).seal(b"secret", CONTEXT)
    dying = start()
    dying.check()
    target: Any = {
        "os.fsync": os, "path.replace": Path, "note": dying.keyring._ledger, "_resealed": dying,
        "replace": type(dying.system),
    }[step]  # fmt: skip
    name = step.rpartition(".")[2]
    real = getattr(target, name)

    def killed(*given: Any, **named: Any) -> None:
        if after:
            real(*given, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target, name, killed)
        with pytest.raises(Killed):
            dying.rotate()
    later = start()
    later.check()
    assert SecretBox(later).open(sealed, CONTEXT) == b"secret"
    assert SecretBox(later).open(SecretBox(later).seal(b"new", CONTEXT), CONTEXT) == b"new"
    master, _ = later.rotate()
    assert {master_of(entry) for entry in backing(later)} == {master.id}
    assert SecretBox(start()).open(sealed, CONTEXT) == b"secret"


def test_many_first_uses_at_once_agree_on_one_key(start: Open, key_file: Path) -> None:
    vaults = [start() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda vault: SecretBox(vault).seal(b"secret", CONTEXT), vaults))
    assert len(json.loads(key_file.read_text())["keys"]) == 1
    assert all(SecretBox(start()).open(text, CONTEXT) == b"secret" for text in sealed)


def test_a_key_shows_nothing_of_itself(key_file: Path) -> None:
    key_file.parent.mkdir()
    key = Keyring(key_file, _Forgetful()).newest()
    assert key.key.hex() not in repr(key)
    assert "key=" not in repr(key)
