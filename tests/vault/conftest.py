"""A vault over an empty store, and another like a process that starts later."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.store.migrate import migrate
from server.store.store import connect
from server.vault.vault import Vault
from tests.vault.serving import Clock, Control

Open = Callable[[], Vault]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the newest schema."""
    file = tmp_path_factory.mktemp("vault") / "empty.db"
    engine = connect(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    return file


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "master.json"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, migrated: Path, key_file: Path, clock: Clock) -> Iterator[Open]:
    """Opens the vault as a process of its own would: nothing is remembered from the one before."""
    shutil.copy(migrated, tmp_path / "hearth.db")
    made: list[Vault] = []

    def opened() -> Vault:
        made.append(Vault(connect(f"sqlite:///{tmp_path / 'hearth.db'}"), key_file, clock))
        return made[-1]

    yield opened
    for vault in made:
        vault.engine.dispose()


@pytest.fixture
def vault(start: Open) -> Vault:
    return start()


@pytest.fixture
def serve(start: Open) -> Iterator[Callable[[], Control]]:
    """Starts a control plane of its own, as after a restart."""
    running: list[Control] = []

    def started() -> Control:
        running.append(Control(start()))
        return running[-1]

    yield started
    for control in running:
        control.close()


@pytest.fixture
def control(serve: Callable[[], Control]) -> Control:
    return serve()


@pytest.fixture
def kms(control: Control) -> Any:
    return control.client()


@pytest.fixture
def key(kms: Any) -> str:
    return str(kms.create_key(Description="of a test")["KeyMetadata"]["KeyId"])
