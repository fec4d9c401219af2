"""DataCaptureConfig through boto3: what an endpoint captures by it, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from server.spec import Capture
from server.store.store import Store
from tests.control.test_endpoint_resource import settle, spec
from tests.control.test_models import make_config, make_model, refused

CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 30,
    "DestinationS3Uri": "s3://kept/deep",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    "CaptureContentTypeHeader": {"CsvContentTypes": ["text/CSV"], "JsonContentTypes": ["application/json"]},
}
SUMMARY = {
    "EnableCapture": True, "CaptureStatus": "Started", "CurrentSamplingPercentage": 30,
    "DestinationS3Uri": "s3://kept/deep", "KmsKeyId": "",
}  # fmt: skip


@pytest.fixture
def made(sagemaker: Any, store: Store) -> Any:
    """An endpoint in service that captures, and configurations that capture other things, or nothing."""
    make_model(sagemaker)
    make_config(sagemaker, "c", DataCaptureConfig=CAPTURE)
    make_config(sagemaker, "more", DataCaptureConfig={**CAPTURE, "InitialSamplingPercentage": 90})
    make_config(sagemaker, "off", DataCaptureConfig={**CAPTURE, "EnableCapture": False})
    make_config(sagemaker, "none")
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    return sagemaker


def shown(client: Any) -> Any:
    return client.describe_endpoint(EndpointName="ep").get("DataCaptureConfig")


def test_a_configuration_becomes_what_replicas_are_told(made: Any, store: Store) -> None:
    assert spec(store).problem is None
    assert spec(store).capture == Capture(
        sampling_percentage=30, destination="s3://kept/deep", csv_types=("text/csv",), json_types=("application/json",)
    )
    assert shown(made) == {**SUMMARY, "CaptureStatus": "Stopped"}
    settle(store)
    assert shown(made) == SUMMARY
    assert made.describe_endpoint_config(EndpointConfigName="c")["DataCaptureConfig"] == CAPTURE


@pytest.mark.parametrize(
    ("modes", "sides"),
    [(["Input"], (True, False)), (["Output"], (False, True)), (["InputAndOutput"], (True, True))],
    ids=["input", "output", "both"],
)
def test_the_sides_that_are_captured(
    sagemaker: Any, store: Store, modes: list[str], sides: tuple[bool, bool]
) -> None:
    make_model(sagemaker)
    options = [{"CaptureMode": mode} for mode in modes]
    make_config(sagemaker, "c", DataCaptureConfig={**CAPTURE, "CaptureOptions": options})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    capture = spec(store).capture
    assert capture is not None
    assert (capture.input, capture.output) == sides


def test_a_change_of_capture_alone_moves_no_traffic(made: Any, store: Store) -> None:
    settle(store)
    made.update_endpoint(EndpointName="ep", EndpointConfigName="more")
    assert spec(store).pending is None
    assert shown(made)["CurrentSamplingPercentage"] == 90
    settle(store)
    made.update_endpoint(EndpointName="ep", EndpointConfigName="off")
    assert (shown(made)["EnableCapture"], shown(made)["CaptureStatus"]) == (False, "Stopped")
    settle(store)
    made.update_endpoint(EndpointName="ep", EndpointConfigName="none")
    assert shown(made) is None


def test_capture_is_retained_unless_it_is_excluded(made: Any, store: Store) -> None:
    settle(store)
    made.update_endpoint(EndpointName="ep", EndpointConfigName="none", RetainAllVariantProperties=True)
    assert shown(made) == SUMMARY
    settle(store)
    made.update_endpoint(
        EndpointName="ep", EndpointConfigName="none", RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DataCaptureConfig"}],
    )  # fmt: skip
    assert shown(made) is None


def test_a_destination_is_a_place_for_objects(sagemaker: Any) -> None:
    make_model(sagemaker)
    wanted = {**CAPTURE, "DestinationS3Uri": "https://kept/deep"}
    code, message = refused(lambda: make_config(sagemaker, "c", DataCaptureConfig=wanted))
    assert (code, "DestinationS3Uri" in message) == ("ValidationException", True)
