"""The access key that a Hearth begins with: the root's, which makes all others."""

from __future__ import annotations

import os
from pathlib import Path

from server.identity.directory import ACCESS_KEY, API_KEY, Directory
from server.identity.keys import new_access_key
from server.store.store import Store
from server.vault.secret_box import SecretBox

FILE = "root-credentials"


def first_key(store: Store, box: SecretBox, folder: Path) -> Path | None:
    """Makes the root's access key where the account has no key at all, and writes it to a file that only its owner
    reads, in the form of the AWS clients' credentials file. None: there is a key already."""
    unit = Directory(store)
    if unit.store.find(ACCESS_KEY) or unit.store.find(API_KEY):
        return None
    made = new_access_key(unit.account, box)
    text = f"[default]\naws_access_key_id = {made.id}\naws_secret_access_key = {made.secret}\n"
    path = folder / FILE
    # Written before the key counts: one that was lost could not be shown again.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with unit.change() as changing:
        made.keep(changing, unit.account)
    return path
