"""`hearth accounts`, and what it takes for an account to be forgotten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.errors import Conflict, InUse
from server.identity.accounts import MANAGER_ROLE, Accounts
from server.identity.directory import ROLE, Directory
from server.identity.keys import open_secret
from server.identity.names import account_of
from server.objects.opening import buckets, open_storage
from server.objects.operations import MODEL
from server.settings import Settings, part
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.cli.test_callers import hearth


def test_an_account_and_its_root_s_key(tmp_path: Path) -> None:
    made = hearth(tmp_path, "accounts", "create", "acme", "--email", "a@b.example")
    assert made.exit_code == 0, made.output
    number, key, secret = re.findall(r"(?:account|=) (\S+)", made.stdout)
    assert account_of(key) == number
    assert "HEARTH_AUTH=required" in made.stderr
    settings = Settings(state_dir=tmp_path)
    store = Store(connect(settings.database), settings.account, settings.region)
    unit = Directory(store.of(number))
    row = unit.key("AccessKey", key)
    assert row is not None
    assert open_secret(number, row, SecretBox(Vault(store.engine, settings.master_keys))) == secret
    assert Directory(store).key("AccessKey", key) is None
    assert "already exists" in hearth(tmp_path, "accounts", "create", "b", "--email", "A@B.example").output
    api_key = hearth(tmp_path, "keys", "create", "--account", number).output
    assert api_key.startswith(f"hk-{number}.")
    hearth(tmp_path, "users", "create", "ana", "--account", number)
    assert "ana" in hearth(tmp_path, "users", "list", "--account", number).output
    assert "ana" not in hearth(tmp_path, "users", "list").output
    assert key in hearth(tmp_path, "keys", "list", "--account", number).output
    assert key not in hearth(tmp_path, "keys", "list").output
    refused = hearth(tmp_path, "accounts", "delete", number)
    assert (refused.exit_code, "IamUser: 1" in refused.output) == (1, True)
    assert hearth(tmp_path, "accounts", "close", number).exit_code == 0
    assert re.search(rf"{number}.*SUSPENDED", hearth(tmp_path, "accounts", "list").output)
    assert hearth(tmp_path, "accounts", "close", number).exit_code == 1
    assert hearth(tmp_path, "accounts", "reopen", number).exit_code == 0
    for command in ("close", "delete"):
        for other in (settings.account, "999999999999"):
            assert hearth(tmp_path, "accounts", command, other).exit_code == 1
    store.engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(state_dir=tmp_path)
    engine = connect(made.database)
    migrate(engine)
    engine.dispose()
    return made


def test_an_account_is_forgotten_when_it_has_nothing(settings: Settings) -> None:
    store = Store(connect(settings.database), settings.account, settings.region)
    accounts = Accounts(store, settings.account)
    number = accounts.unused()
    accounts.create(number, "one", role=MANAGER_ROLE, tags={"k": "v"})
    assert accounts.active() == (settings.account, number)
    within = store.of(number).within("eu-west-1")
    model = within.create("Model", "m", {}, "InService")
    folder = part(settings.objects, number, settings.account)
    named = settings.model_copy(update={"objects_dir": folder, "account": number})
    storage = open_storage(named)
    storage.call(MODEL.operation_model("CreateBucket"), {"Bucket": "bucket"}, None)
    assert (buckets(settings, number), buckets(settings, settings.account)) == (["bucket"], [])
    with pytest.raises(InUse, match=r"Bucket: 1, Model: 1"):
        accounts.remove(number, buckets(settings, number))
    within.remove(model)
    with pytest.raises(InUse, match=r"\(Bucket: 1\)"):
        accounts.remove(number, buckets(settings, number))
    storage.call(MODEL.operation_model("DeleteBucket"), {"Bucket": "bucket"}, None)
    storage.close()
    accounts.remove(number, buckets(settings, number))
    assert accounts.active() == (settings.account,)
    assert not Directory(store.of(number)).all(ROLE)
    store.engine.dispose()


def test_two_accounts_may_not_have_one_email(settings: Settings) -> None:
    store = Store(connect(settings.database), settings.account, settings.region)
    accounts = Accounts(store, settings.account)
    accounts.create(accounts.unused(), "one", "a@b.example")
    with pytest.raises(Conflict, match="already exists"):
        accounts.create(accounts.unused(), "two", "A@B.example")
    accounts.create(accounts.unused(), "three")
    accounts.create(accounts.unused(), "three")
    assert len(accounts.active()) == 4
    store.engine.dispose()
