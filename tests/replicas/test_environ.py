"""What a replica's environment says, and whether it will need vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.prefork.imported import NEED
from server.replicas.environ import ENVIRON, needs, variables
from server.spec import ContainerSpec, VariantSpec


@pytest.mark.parametrize(
    ("variant", "stage"),
    [
        (VariantSpec(model="hearth-python-lm"), "engine"),
        (VariantSpec(model="hearth-digits"), "replica"),
        (VariantSpec(model="org/unknown"), "engine"),
        (VariantSpec(model="org/unknown", task="image-classification"), "replica"),
        (VariantSpec(model="no model at all"), "replica"),
        (VariantSpec(model="s3://bucket/model.tar.gz"), "replica"),
        (VariantSpec(model="s3://bucket/model.tar.gz", task="rerank"), "engine"),
        (
            VariantSpec(
                containers=(
                    ContainerSpec(name="a", model="hearth-digits"),
                    ContainerSpec(name="b", model="org/unknown"),
                )
            ),
            "engine",
        ),
    ],
    ids=["language", "pictures", "hub", "hub pictures", "nothing", "s3", "s3 rerank", "several"],
)
def test_needs(variant: VariantSpec, stage: str) -> None:
    assert needs(variant) == stage
    assert variables(variant, sampler=True)[NEED] == stage


def test_a_folder_with_code_needs_no_engine(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").touch()
    assert needs(VariantSpec(model=str(tmp_path))) == "replica"


def test_the_variant_s_own_goes_over_what_all_have() -> None:
    name = next(iter(ENVIRON))
    assert variables(VariantSpec(model="hearth-digits", env={name: "other"}), sampler=False)[name] == "other"
