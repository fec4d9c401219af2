"""The runtime of external models: a replica that loads nothing, and asks providers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.errors import BadRequest
from server.external.build import External, Place, build
from server.replicas.plan import Home
from server.store.store import Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault


async def start(
    endpoint: str, variant: str, options: Mapping[str, Any], home: Home | None
) -> tuple[External, Vault]:
    """The model, and what is to be closed after it. `options`: the variant's `engine`. Raises BadRequest."""
    if home is None:
        raise BadRequest("an external model needs a replica", field="model")
    vault = Vault(connect(home.database_url), Path(home.master_key_file))
    place = Place(
        endpoint=endpoint, variant=variant, store=Store(vault.engine, home.account, home.region),
        box=SecretBox(vault), allowed=home.external_hosts, own=not home.tenant,
    )  # fmt: skip
    try:
        return await asyncio.to_thread(build, place, options), vault
    except BaseException:
        vault.close()
        raise
