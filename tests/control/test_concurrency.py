"""Many callers at once: one of each name, every version once, nothing refused for being busy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from server.store.store import Store
from tests.control.test_models import CONTAINER, make_config, make_model
from tests.control.test_registry import SPECIFICATION

CALLERS = 8


def together(call: Callable[[int], Any], times: int) -> list[Any]:
    """What `call` gave each time, or the error it ended in."""

    def one(number: int) -> Any:
        try:
            return call(number)
        except ClientError as error:
            return error

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(one, range(times)))


def test_one_of_many_gets_the_name(sagemaker: Any) -> None:
    outcomes = together(lambda _: sagemaker.create_model(ModelName="m", PrimaryContainer=CONTAINER), 24)
    lost = [outcome for outcome in outcomes if isinstance(outcome, ClientError)]
    assert len(lost) == 23
    assert {error.response["Error"]["Code"] for error in lost} == {"ValidationException"}
    assert all("already existing" in str(error) for error in lost)


def test_every_version_is_given_once(sagemaker: Any) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    outcomes = together(
        lambda _: sagemaker.create_model_package(
            ModelPackageGroupName="g", InferenceSpecification=SPECIFICATION
        )["ModelPackageArn"],
        24,
    )  # fmt: skip
    assert sorted(int(arn.rpartition("/")[2]) for arn in outcomes) == list(range(1, 25))


def test_of_changes_at_once_one_is_made_and_the_others_are_told(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    store.report(store.get("Endpoint", "ep"), "InService")
    outcomes = together(lambda _: sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c"), 16)
    lost = [outcome for outcome in outcomes if isinstance(outcome, ClientError)]
    assert len(lost) == 15
    assert {error.response["Error"]["Code"] for error in lost} == {"ValidationException"}
    assert store.get("Endpoint", "ep").generation == 2


def test_a_deletion_gets_through_beside_changes(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    store.report(store.get("Endpoint", "ep"), "InService")

    def call(number: int) -> None:
        if number == 5:
            sagemaker.delete_endpoint(EndpointName="ep")
        else:
            sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c")

    assert together(call, 12)[5] is None
    assert store.get("Endpoint", "ep").status == "Deleting"


def test_tags_added_at_once_are_all_kept(sagemaker: Any) -> None:
    arn = make_model(sagemaker)
    together(lambda n: sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": f"k{n}", "Value": "v"}]), 20)
    assert len(sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 20
