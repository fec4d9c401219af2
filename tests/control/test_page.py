"""The page of operations says what the code does."""

from __future__ import annotations

from pathlib import Path

from server.control.page import page
from server.control.resources import SAGEMAKER

FILE = Path(__file__).parents[2] / "docs" / "sagemaker-operations.md"


def test_the_page_is_current() -> None:
    assert FILE.read_text() == page(), "run: python -m server.control.page > docs/sagemaker-operations.md"


def test_every_operation_is_on_it() -> None:
    rows = dict(line.strip("| ").split(" | ")[:2] for line in page().splitlines() if line.count("|") == 3)
    assert {name for name, state in rows.items() if state == "works"} == set(SAGEMAKER.built)
    assert set(rows) >= SAGEMAKER.operations
