"""What the log keeps outside the database: its key, and the newest mark that a writer of this machine committed.

The mark is a lower bound: a database that was put back to an older state, signed head and all, is behind it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from server.audit.chain import Mark

KEY_BYTES = 32


class KeyProblem(Exception):
    """The key cannot be used; the text says why and how to mend it."""


class Keeper:
    """`STATE_DIR/keys/audit.key` and `STATE_DIR/keys/audit.head`, both for their owner alone."""

    def __init__(self, state_dir: Path) -> None:
        self.key_file = state_dir / "keys" / "audit.key"
        self.head_file = state_dir / "keys" / "audit.head"

    def key(self, *, make: bool = False) -> bytes:
        """Raises KeyProblem when it is missing (unless `make`) or damaged."""
        if make and not self.key_file.exists():
            self._place(self.key_file, secrets.token_hex(KEY_BYTES).encode(), replace=False)
        try:
            found = bytes.fromhex(self.key_file.read_text().strip())
        except FileNotFoundError:
            raise KeyProblem(
                f"{self.key_file} is missing, and with it the means to tell a true audit log from a changed one; "
                "put it back from a copy of the state directory."
            ) from None
        except (OSError, ValueError) as error:
            raise KeyProblem(f"{self.key_file} cannot be read: {error}") from None
        if len(found) != KEY_BYTES:
            raise KeyProblem(f"{self.key_file} is no key of {KEY_BYTES} bytes; put it back from a copy.")
        return found

    def head(self) -> Mark | None:
        """None when there is none. Raises ValueError for a damaged one."""
        try:
            return Mark.from_json(self.head_file.read_text())
        except FileNotFoundError:
            return None

    def note(self, mark: Mark) -> None:
        """Remembers `mark`; two writers may swap places here, so it is a bound and not the end."""
        self._place(self.head_file, mark.to_json().encode(), replace=True)

    def _place(self, file: Path, content: bytes, *, replace: bool) -> None:
        """Puts a whole file in place at once; without `replace` the first one stays."""
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(content)
                if not replace:
                    handle.flush()
                    os.fsync(handle.fileno())
            if replace:
                made.replace(file)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(made, file)
        finally:
            made.unlink(missing_ok=True)
