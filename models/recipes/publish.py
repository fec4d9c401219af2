"""Writing a folder of weights that another process may be reading."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

WEIGHTS_ROOT = Path(__file__).resolve().parent.parent / "weights"
"""Where the recipes put the models that ship with Hearth, one folder each."""

RECORD_NAME = "training.json"
"""The file of a weights folder that says how it was trained and what was measured on it."""


def publish(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill an empty folder beside `folder`, then move each of its files into place.

    A reader sees every file either whole and old or whole and new, and the folder never disappears.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        write(Path(scratch))
        for path in sorted(Path(scratch).iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)


def write_record(folder: Path, record: Mapping[str, object]) -> None:
    """Write `record` as the training record of a weights folder."""
    (folder / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
