"""External models through CreateModel: the image `hearth/external` and its environment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.control.images import check_remote
from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_endpoint_resource import spec
from tests.control.test_models import make_config, refused

PROVIDERS = [{"provider": "anthropic", "model": "claude-x", "secret": "theirs"}]


def make(sagemaker: Any, **environ: str) -> None:
    container = {"Image": "hearth/external", "Environment": environ}
    sagemaker.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)


def test_its_environment_becomes_its_options(sagemaker: Any, store: Store) -> None:
    make(
        sagemaker, EXTERNAL_PROVIDERS=json.dumps(PROVIDERS), EXTERNAL_RETRIES="1",
        EXTERNAL_BUDGET='{"tokens_per_day": 1000}', TZ="UTC",
    )  # fmt: skip
    make_config(sagemaker, "c")
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    (variant,) = spec(store).variants
    assert (spec(store).problem, variant.model, variant.task) == (None, "external", "external")
    assert variant.engine == {"providers": PROVIDERS, "retries": "1", "budget": {"tokens_per_day": 1000}}
    assert variant.env == {"TZ": "UTC"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "providers"),
        ({"EXTERNAL_PROVIDERS": "[]"}, "providers"),
        ({"EXTERNAL_PROVIDERS": '[{"provider": "other", "model": "x"}]'}, "openai"),
        ({"EXTERNAL_PROVIDERS": '[{"provider": "bedrock", "model": "x"}]'}, "region"),
        ({"EXTERNAL_PROVIDERS": '[{"provider": "openai", "model": "x", "key": "sk-secret"}]'}, "hearth secrets put"),
        ({"EXTERNAL_PROVIDERS": '[{"provider": "openai", "model": "x", "url": "file:///etc/passwd"}]'}, "http"),
        ({"EXTERNAL_PROVIDERS": json.dumps(PROVIDERS), "EXTERNAL_RETRIES": "many"}, "retries"),
    ],
    ids=["none", "empty", "provider", "region", "key", "url", "number"],
)
def test_what_is_wrong_is_refused_before_it_is_written_down(
    sagemaker: Any, environ: dict[str, str], words: str
) -> None:
    code, message = refused(lambda: make(sagemaker, **environ))
    assert (code, words in message, "sk-secret" in message) == ("ValidationException", True, False)
    assert sagemaker.list_models()["Models"] == []


def test_other_accounts_may_have_external_models() -> None:
    check_remote("external")
