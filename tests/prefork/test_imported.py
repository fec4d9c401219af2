"""Which environments the mother's imports hold for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.prefork import imported
from server.prefork.imported import Imported

MODULE = """import os
asked = os.environ.get('READ_AT_IMPORT')
os.environ['SET_BY_IMPORT'] = '1'
os.environ['EXTENDED_BY_IMPORT'] = 'more:' + os.environ['EXTENDED_BY_IMPORT']
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Imported]:
    (tmp_path / "module_that_reads.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "module_that_reads", raising=False)
    monkeypatch.setattr(imported, "REPLICA", ("module_that_reads", "module_that_is_not_there"))
    monkeypatch.setenv("READ_AT_IMPORT", "base")
    monkeypatch.setenv("EXTENDED_BY_IMPORT", "base")
    monkeypatch.setenv("SET_BY_IMPORT", "")
    monkeypatch.delenv("SET_BY_IMPORT")
    made = Imported()
    made.load("replica")
    gc.unfreeze()
    yield made
    os.environ.pop("SET_BY_IMPORT", None)


def test_the_environment_is_itself_again(loaded: Imported) -> None:
    assert type(os.environ).__name__ == "_Environ"
    assert loaded.added == {"SET_BY_IMPORT": "1", "EXTENDED_BY_IMPORT": "more:base"}


def test_what_nobody_read_may_differ(loaded: Imported) -> None:
    assert loaded.declines({**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "TENANT": "x"}) is None


def test_what_an_import_read_may_not(loaded: Imported) -> None:
    assert loaded.declines({**os.environ, "READ_AT_IMPORT": "other"}) == "it has its own READ_AT_IMPORT"
    without = {name: value for name, value in os.environ.items() if name != "READ_AT_IMPORT"}
    assert loaded.declines(without) == "it has its own READ_AT_IMPORT"


def test_what_an_import_set_is_absent_or_the_same(loaded: Imported) -> None:
    without = {name: value for name, value in os.environ.items() if name != "SET_BY_IMPORT"}
    assert loaded.declines(without) is None
    assert loaded.declines({**without, "SET_BY_IMPORT": "2"}) == "it has its own SET_BY_IMPORT"


def test_what_an_import_extended_is_as_it_was_or_the_same(loaded: Imported) -> None:
    """OpenCV puts its own folder before LD_LIBRARY_PATH."""
    for value, fits in (("base", True), ("more:base", True), ("other", False)):
        declined = loaded.declines({**os.environ, "EXTENDED_BY_IMPORT": value})
        assert declined == (None if fits else "it has its own EXTENDED_BY_IMPORT")


def test_a_library_to_preload_must_be_there_already(loaded: Imported) -> None:
    assert loaded.declines({**os.environ, "LD_PRELOAD": "/lib/a.so:/lib/b.so"}) == "it preloads /lib/a.so, /lib/b.so"
