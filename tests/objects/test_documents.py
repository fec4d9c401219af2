"""The documents say what is built."""

import re
from pathlib import Path

from server.objects import checksums
from server.objects.local.registry import OPERATIONS
from server.objects.naming import RESERVED_BUCKETS

OBJECTS = (Path(__file__).parents[2] / "docs" / "objects.md").read_text(encoding="utf-8")


def test_the_table_names_what_is_built() -> None:
    table = OBJECTS.partition("## What works")[2].partition("Checksums:")[0]
    first_columns = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for column in first_columns for name in re.findall(r"`(\w+)`", column)]
    assert sorted(named) == sorted(OPERATIONS)


def test_checksums_and_reserved_names() -> None:
    assert f"Checksums: {', '.join(checksums.ALGORITHMS)};" in OBJECTS
    assert all(f"`{name}`" in OBJECTS for name in RESERVED_BUCKETS)
