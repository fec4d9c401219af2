"""Which runtime stands in for which image, and what an instance type reserves."""

from __future__ import annotations

from typing import Any

import pytest

from server.control.images import IMAGES, Served, repository, served
from server.control.instances import CARDS, Machine, on_aws, reserved
from server.control.resources import SAGEMAKER
from server.errors import BadRequest
from server.spec import Resources

ECR = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (f"{ECR}djl-inference:0.33.0-lmi15.0.0-cu128", "djl-inference"),
        (f"{ECR}huggingface-pytorch-inference@sha256:0a", "huggingface-pytorch-inference"),
        ("localhost:5000/team/vllm-openai:latest", "vllm-openai"),
        ("vllm/vllm-openai", "vllm-openai"),
        ("sagemaker-xgboost:1.7-1", "sagemaker-xgboost"),
        ("hearth/hearth-digits", "hearth/hearth-digits"),
        (f"{ECR}hearth/hearth-digits:1", "hearth/hearth-digits"),
    ],
)
def test_the_repository_of_an_image(image: str, name: str) -> None:
    assert repository(image) == name


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (
            {"Image": "djl-inference", "Environment": {"OPTION_MODEL_ID": "a/b", "OPTION_DTYPE": "fp16", "OWN": "1"}},
            Served("a/b", "generate", {"dtype": "float16"}, {"OWN": "1"}),
        ),
        (
            {"Image": "huggingface-pytorch-tgi-inference",
             "Environment": {"HF_MODEL_ID": "a/b", "MAX_TOTAL_TOKENS": "2048", "HF_TOKEN": "t"}},
            Served("a/b", "generate", {"max-model-len": 2048}, {"HF_TOKEN": "t"}),
        ),
        ({"Image": "tei-cpu", "Environment": {"HF_MODEL_ID": "a/b"}}, Served("a/b", "embed", {}, {})),
        (
            {"Image": "tei", "Environment": {"HF_MODEL_ID": "a/b", "HF_TASK": "text-ranking"}},
            Served("a/b", "rerank", {}, {}),
        ),
        (
            {"Image": "huggingface-pytorch-inference",
             "Environment": {"HF_MODEL_ID": "a/b", "HF_TASK": "image-classification"}},
            Served("a/b", "image-classification", {}, {}),
        ),
        (
            {"Image": "sagemaker-scikit-learn:1.2", "ModelDataUrl": "s3://b/model.tar.gz",
             "Environment": {"SAGEMAKER_PROGRAM": "inference.py"}},
            Served("s3://b/model.tar.gz", None, {}, {"SAGEMAKER_PROGRAM": "inference.py"}),
        ),
        (
            {"Image": "djl-inference", "Environment": {"HF_MODEL_ID": "/opt/ml/model"},
             "ModelDataSource": {"S3DataSource": {"S3Uri": "s3://b/p/"}}},
            Served("s3://b/p/", "generate", {}, {}),
        ),
        (
            {"Image": "hearth/hearth-python-lm", "Environment": {"SM_VLLM_MAX_MODEL_LEN": "64"}},
            Served("hearth-python-lm", "generate", {"max-model-len": 64}, {}),
        ),
    ],
)  # fmt: skip
def test_what_stands_in_for_a_container(container: dict[str, Any], expected: Served) -> None:
    assert served(container) == expected


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"Image": "own:1"}, "not one that Hearth has a runtime for"),
        ({"Image": "hearth/none"}, "hearth/hearth-digits"),
        ({"Image": "djl-inference"}, "HF_MODEL_ID"),
        ({"Image": "sagemaker-xgboost"}, "ModelDataUrl"),
        ({"Image": "sagemaker-xgboost", "ModelDataUrl": "https://a/b"}, "only s3://"),
        ({"Image": "djl-inference", "Environment": {"HF_MODEL_ID": "/etc"}}, "paths are not read"),
        ({"Image": "djl-inference", "Environment": {"HF_MODEL_ID": "../up"}}, "paths are not read"),
        ({"Image": "djl-inference", "Environment": {"HF_MODEL_ID": "folder"}}, "hearth-python-lm"),
        ({"Image": "tei", "Environment": {"HF_MODEL_ID": "a/b", "HF_TASK": "dance"}}, "HF_TASK"),
        ({"Image": "hearth/hearth-digits", "ModelDataUrl": "s3://b/k"}, "brings its own model"),
    ],
)
def test_why_nothing_stands_in(container: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        served(container)


def test_no_repository_is_named_twice() -> None:
    named = [name for image in IMAGES for name in image.repositories]
    assert len(named) == len(set(named))


def test_every_instance_type_of_the_model_has_a_size() -> None:
    types = SAGEMAKER.model.shape_for("ProductionVariantInstanceType").enum
    for instance_type in types:
        found = on_aws(instance_type)
        assert 1 <= found.num_cpus <= 224, instance_type
        assert 0 <= found.num_gpus <= 16, instance_type
    assert set(CARDS) <= {instance_type.split(".")[1] for instance_type in types}


@pytest.mark.parametrize(
    ("instance_type", "cpus", "cards"),
    [("ml.t2.medium", 2, 0), ("ml.m5.large", 2, 0), ("ml.c5.18xlarge", 72, 0), ("ml.g5.xlarge", 4, 1),
     ("ml.g5.12xlarge", 48, 4), ("ml.p4d.24xlarge", 96, 8), ("ml.inf2.xlarge", 4, 0)],
)  # fmt: skip
def test_instance_types_as_aws_has_them(instance_type: str, cpus: float, cards: float) -> None:
    assert on_aws(instance_type) == Resources(num_cpus=cpus, num_gpus=cards)


def test_a_laptop_runs_them_all() -> None:
    assert reserved("ml.p4d.24xlarge", Machine()) == Resources(num_cpus=1, num_gpus=0)
    assert reserved("ml.p4d.24xlarge", Machine(cards=1)) == Resources(num_cpus=1, num_gpus=1)
    assert reserved("ml.m5.large", Machine(cards=1)) == Resources(num_cpus=1, num_gpus=0)
    assert reserved("ml.g5.12xlarge", Machine(reserve=True)) == Resources(num_cpus=48, num_gpus=4)
    assert reserved(None, Machine(cards=1, reserve=True)) == Resources()
