"""Models in MultiModel mode, through boto3: what is refused, and what their endpoints are to run."""

from __future__ import annotations

from typing import Any

import pytest

from server.spec import VariantSpec
from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_endpoint_resource import spec
from tests.control.test_models import SERVERLESS, make_config, refused

PREFIX = "s3://models/all/"
MANY = {"Image": "sagemaker-scikit-learn:1.2-1", "ModelDataUrl": PREFIX, "Mode": "MultiModel"}


def config(setting: str) -> dict[str, Any]:
    return {"MultiModelConfig": {"ModelCacheSetting": setting}}


def endpoint(sagemaker: Any, store: Store, model: dict[str, Any], *variants: dict[str, Any]) -> VariantSpec:
    """The variant that an endpoint on a new model is to run."""
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, **model)
    make_config(sagemaker, "c", *variants)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    made = spec(store)
    assert made.problem is None
    return made.variants[0]


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"Image": MANY["Image"], "Mode": "MultiModel"}, "Mode MultiModel needs the ModelDataUrl of a prefix"),
        ({**MANY, "ModelDataUrl": "s3://models/one.tar.gz"}, "is the prefix below which all models are"),
        ({**MANY, "Mode": "SingleModel", **config("Enabled")}, "MultiModelConfig needs Mode MultiModel"),
        ({**MANY, "Mode": "Several"}, "Member must satisfy enum value set: [SingleModel, MultiModel]"),
        ({**MANY, **config("Sometimes")}, "Member must satisfy enum value set: [Enabled, Disabled]"),
        ({"ModelPackageName": "p", "Mode": "MultiModel"}, "a model package holds one model"),
        (
            {
                "Image": MANY["Image"], "Mode": "MultiModel",
                "ModelDataSource": {
                    "S3DataSource": {"S3Uri": PREFIX, "S3DataType": "S3Prefix", "CompressionType": "None"}
                },
            },
            "ModelDataSource cannot be used with Mode MultiModel",
        ),
    ],
    ids=["no-url", "archive", "single", "mode", "setting", "package", "source"],
)  # fmt: skip
def test_what_is_refused(unchecked: Any, container: dict[str, Any], message: str) -> None:
    code, said = refused(unchecked.create_model, ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert code == "ValidationException"
    assert message in said


@pytest.mark.parametrize("setting", ["Enabled", "Disabled"])
def test_an_endpoint_is_to_run_them(sagemaker: Any, store: Store, setting: str) -> None:
    container = {**MANY, **config(setting), "Environment": {"HEARTH_MAX_MODELS": "7"}}
    variant = endpoint(sagemaker, store, {"PrimaryContainer": container})
    assert (variant.model, variant.many, variant.env) == (PREFIX, setting, {"HEARTH_MAX_MODELS": "7"})
    shown = sagemaker.describe_model(ModelName="m")["PrimaryContainer"]
    assert (shown["Mode"], shown["MultiModelConfig"]) == ("MultiModel", {"ModelCacheSetting": setting})


def test_models_are_kept_unless_told_otherwise(sagemaker: Any, store: Store) -> None:
    assert endpoint(sagemaker, store, {"PrimaryContainer": MANY}).many == "Enabled"


def test_one_model_is_no_many(sagemaker: Any, store: Store) -> None:
    one = {**MANY, "Mode": "SingleModel", "ModelDataUrl": "s3://models/one.tar.gz"}
    assert endpoint(sagemaker, store, {"PrimaryContainer": one}).many is None


def test_memory_of_a_serverless_variant_bounds_its_models(sagemaker: Any, store: Store) -> None:
    variant = endpoint(sagemaker, store, {"PrimaryContainer": MANY}, SERVERLESS)
    serverless: Any = SERVERLESS["ServerlessConfig"]
    assert variant.engine == {"model-cache-mb": serverless["MemorySizeInMB"]}


def test_one_of_a_pipelines_containers(sagemaker: Any, store: Store) -> None:
    before = {"Image": MANY["Image"], "ModelDataUrl": "s3://models/before.tar.gz"}
    variant = endpoint(sagemaker, store, {"Containers": [before, MANY]})
    assert [(each.model, each.many) for each in variant.containers] == [
        ("s3://models/before.tar.gz", None), (PREFIX, "Enabled"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"Image": "vllm-openai:v1"}, "is served with vLLM, which holds one model; it cannot be MultiModel."),
        ({"Image": "hearth/hearth-python-lm"}, "brings its own model; ModelDataUrl has no place in it."),
        (
            {"Image": "huggingface-pytorch-inference:2", "Environment": {"HF_MODEL_ID": "org/name"}},
            "Environment names the model 'org/name'",
        ),
        (
            {"Image": "huggingface-pytorch-inference:2", "Environment": {"HF_TASK": "text-generation"}},
            "is served with vLLM",
        ),
        ({"Environment": {"HEARTH_CACHE": "true"}}, "the response cache is for models that stay what they are"),
    ],
    ids=["image", "own", "hub", "task", "cached"],
)
def test_what_cannot_be_run(sagemaker: Any, store: Store, more: dict[str, Any], reason: str) -> None:
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={**MANY, **more})
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert reason in str(spec(store).problem)
