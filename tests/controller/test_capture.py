"""Which replica captures what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.spec import Capture, EndpointSpec, Rollout, VariantSpec
from tests.controller.rehearsal import Rehearsal

SOME, MORE = Capture(destination="s3://some"), Capture(destination="s3://more", sampling_percentage=5)
OLD, NEW = VariantSpec(model="one"), VariantSpec(model="two")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Rehearsal]:
    made = Rehearsal(tmp_path)
    yield made
    made.store.engine.dispose()


def test_replicas_capture_what_the_side_they_belong_to_says(world: Rehearsal) -> None:
    old = world.serve(OLD)
    captures = world.controller.captures
    (beat,) = world.cluster.beats()
    assert captures.of(beat) is None
    captures.look([replace(world.resource, document=old.model_copy(update={"capture": SOME}).model_dump(mode="json"))])
    assert captures.of(beat) == SOME.model_dump(mode="json")
    assert captures.of(replace(beat, account="210987654321")) is None
    new = EndpointSpec(name=old.name, variants=(NEW,), capture=MORE)
    pending = Rollout(spec=new, asked_at=0.0)
    both = old.model_copy(update={"capture": SOME, "pending": pending})
    captures.look([replace(world.resource, document=both.model_dump(mode="json"))])
    assert captures.of(beat) == SOME.model_dump(mode="json")
    assert captures.of(replace(beat, revision=NEW.revision)) == MORE.model_dump(mode="json")
    captures.look([])
    assert captures.of(beat) is None
