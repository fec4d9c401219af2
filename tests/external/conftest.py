"""External models behind a real guard, their providers, and a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from server.external import secrets
from server.external.build import External, Place, build
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault
from tests.external.providers import ACCESS, KEY, REGION, SECRET, Provider, providing
from tests.fixtures.served import Served, guarded, serving

ACCOUNT = "123456789012"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and the keys of what is sealed in it."""
    folder = tmp_path_factory.mktemp("external")
    vault = Vault(connect(f"sqlite:///{folder / 'hearth.db'}"), folder / "master.json")
    migrate(vault.engine)
    store, box = Store(vault.engine, ACCOUNT, "us-east-1"), SecretBox(vault)
    secrets.put(store, box, "openai", KEY.encode())
    secrets.put(store, box, "aws", f"{ACCESS}:{SECRET}".encode())
    vault.close()
    return folder


@pytest.fixture
def vault(empty: Path, tmp_path: Path) -> Iterator[Vault]:
    shutil.copytree(empty, tmp_path / "state")
    made = Vault(connect(f"sqlite:///{tmp_path / 'state' / 'hearth.db'}"), tmp_path / "state" / "master.json")
    yield made
    made.close()


@pytest.fixture
def store(vault: Vault) -> Store:
    return Store(vault.engine, ACCOUNT, "us-east-1")


@pytest.fixture(scope="session")
def _running() -> Iterator[list[Provider]]:
    with ExitStack() as stack:
        yield [stack.enter_context(providing()) for _ in range(2)]


@pytest.fixture
def providers(_running: list[Provider]) -> list[Provider]:
    """Two servers that nobody has asked yet."""
    for each in _running:
        each.failures.clear()
        each.asked.clear()
        each.pause.set()
        each.break_off = False
    return _running


@pytest.fixture
def provider(providers: list[Provider]) -> Provider:
    return providers[0]


def openai_at(provider: Provider, model: str = "gpt-x") -> dict[str, Any]:
    return {"provider": "openai", "model": model, "url": f"{provider.url}/v1", "secret": "openai"}


def anthropic_at(provider: Provider) -> dict[str, Any]:
    return {"provider": "anthropic", "model": "claude-x", "url": provider.url, "secret": "openai"}


def bedrock_at(provider: Provider, model: str = "amazon.titan-text-premier-v1:0", **more: Any) -> dict[str, Any]:
    return {
        "provider": "bedrock", "model": model, "url": provider.url, "region": REGION, "secret": "aws", **more
    }  # fmt: skip


Make = Callable[..., External]
Serve = Callable[..., Served]


@pytest.fixture
def make(vault: Vault, store: Store, providers: list[Provider]) -> Make:
    """An external model of these options; its retries take no time."""

    def made(*options: dict[str, Any], own: bool = True, allowed: str | None = None, **more: Any) -> External:
        hosts = ",".join(each.host for each in providers) if allowed is None else allowed
        place = Place("m", "AllTraffic", store, SecretBox(vault), hosts, own)
        found = build(place, {"providers": list(options), **more})
        found.chain._sleep = _at_once
        return found

    return made


async def _at_once(_seconds: float) -> None:
    return None


@pytest.fixture
def serve(make: Make) -> Iterator[Serve]:
    """The same behind a guard."""
    with ExitStack() as stack:

        def served(*options: dict[str, Any], **more: Any) -> Served:
            gate = more.pop("gate", None)
            model = make(*options, **more)
            return stack.enter_context(serving(guarded(model.engines, gate=gate), model.close))

        yield served
