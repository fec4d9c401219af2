"""Keys of providers: sealed, bound to their account and name, replaced while replicas run, and never shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli.main import app
from server.errors import BadRequest, NotFound, SealBroken
from server.external import bedrock_wire, options, secrets
from server.external.options import ProviderOptions
from server.external.secrets import Secrets
from server.external.wire import ProviderFailed
from server.store.store import Store
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.external.conftest import Make, bedrock_at, openai_at
from tests.external.providers import KEY, Provider

OTHER = "210987654321"


def test_what_is_stored_does_not_tell(store: Store, vault: Vault) -> None:
    assert KEY not in json.dumps(dict(store.get(secrets.KIND, "openai").document))
    assert Secrets(store, SecretBox(vault)).value("openai") == KEY


def test_a_secret_opens_for_its_own_account_and_name(store: Store, vault: Vault) -> None:
    box = SecretBox(vault)
    with pytest.raises(BadRequest, match="hearth secrets put"):
        Secrets(store.of(OTHER), box).value("openai")
    moved = store.get(secrets.KIND, "openai").document
    for place, name in ((store.of(OTHER), "openai"), (store, "renamed")):
        place.create(secrets.KIND, name, moved, "Active", arn=f"arn:hearth:test:::{place.account}/{name}")
        with pytest.raises(SealBroken):
            Secrets(place, box).value(name)


def test_a_key_that_is_replaced_counts(store: Store, vault: Vault) -> None:
    now = [0.0]
    box = SecretBox(vault)
    found = Secrets(store, box, fresh_s=10.0, clock=lambda: now[0])
    assert found.value("openai") == KEY
    secrets.put(store, box, "openai", b"another")
    assert found.value("openai") == KEY
    now[0] = 11.0
    assert found.value("openai") == "another"
    secrets.remove(store, "openai")
    now[0] = 22.0
    with pytest.raises(BadRequest):
        found.value("openai")
    with pytest.raises(NotFound):
        secrets.remove(store, "openai")


def test_keys_are_not_written_into_options() -> None:
    provider = {"provider": "openai", "model": "x", "api_key": KEY}
    with pytest.raises(BadRequest, match="hearth secrets put") as caught:
        options.read({"providers": [provider]})
    assert KEY not in caught.value.message


def test_the_operators_credentials_are_the_own_accounts_alone(store: Store, vault: Vault, provider: Provider) -> None:
    chosen = ProviderOptions.model_validate({**bedrock_at(provider), "secret": None})
    signer = bedrock_wire.Signer(chosen, Secrets(store, SecretBox(vault)), ambient=False)
    with pytest.raises(ProviderFailed, match="needs a secret"):
        signer.sign("http://127.0.0.1/model/x/converse", {}, b"{}")


def test_the_operators_credentials_are_those_that_botocore_finds(
    store: Store, vault: Vault, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOPERATOR")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    chosen = ProviderOptions.model_validate({**bedrock_at(provider), "secret": None})
    signer = bedrock_wire.Signer(chosen, Secrets(store, SecretBox(vault)), ambient=True)
    signed = signer.sign("http://127.0.0.1/model/x/converse", {}, b"{}")
    assert "Credential=AKIAOPERATOR/" in signed["Authorization"]


def test_a_secret_that_is_not_there_keeps_the_model_from_starting(make: Make, provider: Provider) -> None:
    with pytest.raises(BadRequest, match="no secret 'absent'"):
        make({**openai_at(provider), "secret": "absent"})


def test_the_command_keeps_lists_and_forgets(tmp_path: Path) -> None:
    runner, state = CliRunner(), ["--state", str(tmp_path / "state")]
    put = runner.invoke(app, ["secrets", "put", "theirs", *state], input=f"{KEY}\n")
    assert (put.exit_code, KEY in put.output) == (0, False)
    shown = runner.invoke(app, ["secrets", "list", *state])
    assert "theirs" in shown.output
    assert KEY not in shown.output
    files = [file for file in (tmp_path / "state").rglob("*") if file.is_file()]
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    assert runner.invoke(app, ["secrets", "delete", "theirs", *state]).exit_code == 0
    assert "no secrets" in runner.invoke(app, ["secrets", "list", *state]).output
    assert runner.invoke(app, ["secrets", "put", "a/b", *state], input="x").exit_code == 1


def test_a_replica_of_an_external_model_loads_no_torch() -> None:
    code = "import server.replicas.external, sys; sys.exit('torch' in sys.modules or 'vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
