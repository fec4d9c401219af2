"""`hearth keys`, and what `hearth up` says without them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from server.cli.main import app, console
from server.cli.up import CannotStart, check
from server.settings import Settings
from server.store.store import connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.objects.serving import settings

CONTEXT = {"kind": "test"}


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return settings(tmp_path, port=1)


@pytest.fixture
def sealed(chosen: Settings) -> str:
    vault = Vault(connect(chosen.database), chosen.master_keys)
    text = SecretBox(vault).seal(b"secret", CONTEXT)
    vault.close()
    return text


def hearth(*words: str, state: Path) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.cli.main.console", Console(width=200))
        console.width = 200  # what it was when somebody first imported it
        done = CliRunner().invoke(app, [*words, "--state", str(state)])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_rotation_adds_a_key_that_seals_everything(chosen: Settings, sealed: str, tmp_path: Path) -> None:
    code, output = hearth("keys", "rotate", state=tmp_path)
    found = re.search(r"New master key ([0-9a-f]{32}); 1 keys", output)
    assert (code, found is not None) == (0, True), output
    assert found is not None
    ids = [key["id"] for key in json.loads(chosen.master_keys.read_text())["keys"]]
    assert (len(ids), ids[-1]) == (2, found[1])
    vault = Vault(connect(chosen.database), chosen.master_keys)
    assert SecretBox(vault).open(sealed, CONTEXT) == b"secret"
    assert vault.sealed() == {ids[-1]: 1}
    vault.close()
    code, output = hearth("keys", "show", state=tmp_path)
    assert code == 0
    assert [re.search(rf"{id}.*?(\d+) [^\d]*$", output, re.MULTILINE)[1] for id in ids] == ["0", "1"]  # type: ignore[index]


def test_before_anything_is_encrypted(chosen: Settings, tmp_path: Path) -> None:
    code, output = hearth("keys", "show", state=tmp_path)
    assert (code, "not made yet" in output, chosen.master_keys.exists()) == (0, True, False)


@pytest.mark.parametrize("command", ["rotate", "show"])
def test_where_there_is_no_hearth(tmp_path: Path, command: str) -> None:
    code, output = hearth("keys", command, state=tmp_path / "none")
    assert (code, "There is no Hearth in" in output) == (1, True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["rotate", "show"])
def test_a_lost_file_is_said(chosen: Settings, sealed: str, tmp_path: Path, command: str) -> None:
    chosen.master_keys.unlink()
    code, output = hearth("keys", command, state=tmp_path)
    assert (code, str(chosen.master_keys) in output.replace("\n", "")) == (1, True), output
    assert not chosen.master_keys.exists()


def test_a_hearth_that_lost_its_keys_does_not_start(chosen: Settings, sealed: str) -> None:
    chosen.master_keys.unlink()
    with pytest.raises(CannotStart, match=re.escape(str(chosen.master_keys))):
        check(chosen)
