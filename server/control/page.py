"""The page `docs/sagemaker-operations.md`, made from what is built: `python -m server.control.page > FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from models.catalogue import catalogue
from server.control.images import HUB_VARIABLES, IMAGES, SHIPPED, Image
from server.control.instances import on_aws
from server.control.resources import SAGEMAKER
from server.control.services import SERVICES
from server.external import options as external

HEAD = """# SageMaker's API

Made by `python -m server.control.page`; a test keeps it true. Point any client at Hearth with `endpoint_url` or
`AWS_ENDPOINT_URL`: boto3, the AWS CLI, the `sagemaker` SDK. How endpoints are made through it, and where it differs
from AWS: [sagemaker.md](sagemaker.md).
"""


def page() -> str:
    return "\n".join((HEAD, *_operations(), "", *_others(), "", *_images(), "", *_instances(), ""))


def _operations() -> Iterator[str]:
    works = sorted(SAGEMAKER.built)
    rest = sorted(SAGEMAKER.operations - set(works))
    yield "## Operations\n"
    yield f"Of {len(SAGEMAKER.operations)} operations {len(works)} work. The requests of all others are checked against"
    yield "the service model too (`ValidationException`, `SerializationException`), then answered with"
    yield "`UnknownOperationException`.\n"
    yield "| operation | state |"
    yield "| --- | --- |"
    yield from (f"| {name} | works |" for name in works)
    yield from (f"| {name} | request is checked only |" for name in rest)


def _others() -> Iterator[str]:
    yield "## Other services at this address\n"
    yield "| service | operations that work |"
    yield "| --- | --- |"
    for service in sorted(SERVICES.values(), key=lambda each: each.name):
        if service is not SAGEMAKER:
            yield f"| `{service.name}` | {', '.join(sorted(service.built))} |"


def _images() -> Iterator[str]:
    yield "## Images\n"
    yield "No image is pulled: the repository's name (registry, tag and digest do not matter) says which runtime stands"
    yield "in for it.\n"
    yield "| repository | served | model from | engine options from |"
    yield "| --- | --- | --- | --- |"
    yield from (_image(image) for image in IMAGES)
    yield f"| `{external.IMAGE}` | [a provider's model](external-models.md) | `EXTERNAL_PROVIDERS` | `EXTERNAL_*` |"
    shipped = ", ".join(f"`{SHIPPED}{name}`" for name in catalogue())
    yield f"| {shipped} | that model of the catalogue | itself | `SM_VLLM_*`, `OPTION_*` |"


def _image(image: Image) -> str:
    names = ", ".join(f"`{name}`" for name in image.repositories)
    variables = ", ".join(f"`{name}`" for name in HUB_VARIABLES)
    model = f"{variables}, or ModelData" if image.hub else "ModelData"
    options = "`SM_VLLM_*`, `OPTION_*`, text-generation-inference's" if image.options else "none"
    return f"| {names} | {image.serves} | {model} | {options} |"


def _instances() -> Iterator[str]:
    yield "## Instance types\n"
    yield "Every type of the service model is taken. A replica reserves one CPU, and the type's cards as far as this"
    yield "machine has them; with `reserve_instances` it reserves what the type has on AWS:\n"
    yield "| type | CPUs | cards |"
    yield "| --- | --- | --- |"
    for instance_type in SAGEMAKER.model.shape_for("ProductionVariantInstanceType").enum:
        found = on_aws(instance_type)
        yield f"| `{instance_type}` | {found.num_cpus:g} | {found.num_gpus:g} |"


if __name__ == "__main__":
    sys.stdout.write(page())
