"""Two real S3 endpoints: objects in a local folder, and the same passed on to another S3 (itself a local one)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.objects.app import application
from server.settings import Settings
from tests.objects.serving import Served, client, settings

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(application(settings(tmp_path_factory.mktemp("local"))))
    yield served
    served.close()


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory, local: Served) -> Iterator[Served]:
    """Keeps nothing itself: every call goes on to `local`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setitem(os.environ, name, "outside")
        state = tmp_path_factory.mktemp("outside")
        served = Served(application(Settings(state_dir=state, objects_url=local.url)))
        yield served
    served.close()
    assert list(state.iterdir()) == []


@pytest.fixture(params=["local", "outside"])
def served(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def s3(served: Served) -> Iterator[Any]:
    made = client(served.url)
    yield made
    made.close()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{next(NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


def blobs(folder: Path) -> list[Path]:
    """Files of content below a local store's state."""
    return [path for path in (folder / "objects" / "blobs").glob("*/*") if path.is_file()]
