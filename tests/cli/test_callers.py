"""`hearth users`, `hearth keys` and what `hearth up` refuses to open to the network."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from server.cli.main import app, console
from server.cli.up import CannotStart, check
from server.identity.directory import Directory
from server.identity.keys import digest, open_secret
from server.settings import Settings
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

FULL = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


def hearth(state: Path, *arguments: str) -> Result:
    console.width = 200  # what it was when somebody first imported it
    return CliRunner().invoke(app, [*arguments, "--state", str(state)])


def directory(state: Path) -> tuple[Directory, SecretBox]:
    settings = Settings(state_dir=state)
    engine = connect(settings.database)
    return Directory(Store(engine, settings.account, settings.region)), SecretBox(Vault(engine, settings.master_keys))


def test_a_user_and_its_access_key(tmp_path: Path) -> None:
    made = hearth(tmp_path, "users", "create", "ana", "--policy", FULL)
    assert made.exit_code == 0, made.output
    key, secret = re.findall(r"= (\S+)", made.output)
    unit, box = directory(tmp_path)
    row = unit.key("AccessKey", key)
    assert row is not None
    assert open_secret(unit.account, row, box) == secret
    shown = hearth(tmp_path, "users", "list").output
    assert "ana" in shown
    assert "AmazonSageMakerFullAccess" in shown
    again = hearth(tmp_path, "users", "create", "Ana")
    assert (again.exit_code, "already exists" in again.output) == (1, True)
    assert hearth(tmp_path, "users", "create", "bo", "--policy", FULL + "2").exit_code == 1
    unit.store.engine.dispose()


def test_api_keys_are_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    hearth(tmp_path, "users", "create", "ana")
    keys = [hearth(tmp_path, "keys", "create", *more).output.strip() for more in ((), ("--user", "ana", "--days", "3"))]
    assert all(re.fullmatch(r"hk-123456789012\.[\w-]{43}", key) for key in keys)
    unit, _ = directory(tmp_path)
    rows = {row.document["Hash"]: row for row in unit.store.find("ApiKey")}
    assert [rows[digest(key)].document["Owner"][:4] for key in keys] == [unit.account[:4], "AIDA"]
    listed = hearth(tmp_path, "keys", "list").output
    assert not [key for key in keys if key in listed]
    name = rows[digest(keys[0])].name
    assert name in listed
    assert hearth(tmp_path, "keys", "revoke", name).exit_code == 0
    assert name not in hearth(tmp_path, "keys", "list").output
    assert hearth(tmp_path, "keys", "revoke", name).exit_code == 1
    assert hearth(tmp_path, "keys", "create", "--user", "nobody").exit_code == 1
    unit.store.engine.dispose()


def test_beyond_loopback_callers_are_asked(short_path: Path) -> None:
    state = Path(os.path.relpath(short_path))
    with pytest.raises(CannotStart, match="HEARTH_AUTH=required"):
        check(Settings(host="0.0.0.0", port=1, state_dir=state))
    for allowed in (Settings(host="0.0.0.0", auth="required"), Settings(host="0.0.0.0", allow_anonymous=True)):
        check(allowed.model_copy(update={"port": 0, "state_dir": short_path}))


def test_what_is_done_here_is_in_the_audit_log(tmp_path: Path) -> None:
    made = hearth(tmp_path, "users", "create", "ana", "--policy", FULL).output
    access, secret = re.findall(r"= (\S+)", made)
    key = hearth(tmp_path, "keys", "create", "--user", "ana").output.strip()
    hearth(tmp_path, "keys", "revoke", access)
    hearth(tmp_path, "quotas", "set", "H-ENDPOINTS", "5")
    refused = hearth(tmp_path, "keys", "revoke", access)
    assert refused.exit_code == 1
    found = [json.loads(line) for line in hearth(tmp_path, "audit", "tail", "--json").output.splitlines()]
    assert [event["eventName"] for event in found] == ["CreateUser", "CreateApiKey", "RevokeKey", "SetQuota"]
    assert {event["userIdentity"]["type"] for event in found} == {"Root"}
    assert {event["userAgent"] for event in found} == {"the hearth command"}
    assert found[0]["requestParameters"] == {"userName": "ana", "policyArns": [FULL], "accessKeyId": access}
    assert found[2]["requestParameters"] == {"keyId": access}
    assert not [text for text in (secret, key) if text in json.dumps(found)]
    assert hearth(tmp_path, "audit", "verify").exit_code == 0
