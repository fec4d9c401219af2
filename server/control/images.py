"""Container images that Hearth has a runtime for: one table.

No image is pulled. The repository's name, without registry, tag and digest, says which of Hearth's runtimes
stands in for it and where that runtime reads its model and its options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.catalogue import catalogue
from server.control import environment
from server.errors import BadRequest
from server.external import options as external
from server.spec import ENGINE_TASKS, Task

SHIPPED = "hearth/"
"""`hearth/NAME` is the model NAME of the catalogue."""
ARTIFACTS = "/opt/ml/model"
"""Where a container finds the artifacts of ModelDataUrl."""
HUB_VARIABLES = ("HF_MODEL_ID", "OPTION_MODEL_ID", "SM_VLLM_MODEL", "SM_MODEL_ID", "MODEL_ID")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Image:
    """One runtime: the repositories it stands in for, and what it serves."""

    repositories: tuple[str, ...]
    serves: str
    task: Task | None = None
    """None: `HF_TASK`, or what the model's own files say."""
    hub: bool = False
    """Whether a variable may name a catalogue or Hugging Face model; else only ModelData does."""
    options: bool = False
    """Whether the environment holds engine options."""


IMAGES: tuple[Image, ...] = (
    Image(("djl-inference", "lmi"), "text generation with vLLM", "generate", hub=True, options=True),
    Image(
        ("huggingface-pytorch-tgi-inference", "text-generation-inference"), "text generation with vLLM",
        "generate", hub=True, options=True,
    ),
    Image(("vllm", "vllm-openai", "sagemaker-vllm", "vllm-inference"), "text with vLLM", hub=True, options=True),
    Image(("tei", "tei-cpu", "text-embeddings-inference"), "embeddings with vLLM", "embed", hub=True),
    Image(
        ("huggingface-pytorch-inference", "huggingface-pytorch-inference-neuronx"),
        "a Hugging Face model by its task, or code/inference.py", hub=True,
    ),
    Image(("sagemaker-scikit-learn",), "scikit-learn models (skops, ONNX), or code/inference.py"),
    Image(("sagemaker-xgboost",), "XGBoost models, or code/inference.py"),
    Image(("pytorch-inference",), "TorchScript models, or code/inference.py"),
    Image(("onnxruntime", "onnx"), "ONNX models"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Served:
    """What stands in for one container."""

    model: str
    task: Task | None
    engine: Mapping[str, Any]
    env: Mapping[str, str]


def known() -> str:
    """The names of all images, for messages."""
    named = [name for image in IMAGES for name in image.repositories]
    return ", ".join([*named, external.IMAGE, *(f"{SHIPPED}{model}" for model in catalogue())])


def repository(image: str) -> str:
    """`REGISTRY/PATH/NAME:TAG@DIGEST` as `NAME`, or as `hearth/NAME`."""
    path = image.partition("@")[0]
    host, slash, rest = path.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        path = rest
    path = path.partition(":")[0]
    return path if path.startswith(SHIPPED) else path.rpartition("/")[2]


def served(container: Mapping[str, Any]) -> Served:
    """The runtime for a ContainerDefinition. Raises BadRequest with why there is none."""
    image = container.get("Image", "")
    name = repository(image)
    environ: Mapping[str, str] = container.get("Environment", {})
    env = {key: value for key, value in environ.items() if not environment.consumed(key)}
    if name == external.IMAGE:
        kept = {key: value for key, value in env.items() if not key.startswith(external.PREFIX)}
        return Served(external.MODEL, "external", external.named(environ), kept)
    if name.startswith(SHIPPED) and (entry := catalogue().get(name.removeprefix(SHIPPED))):
        if artifact(container) is not None:
            raise BadRequest(f"Image {image!r} brings its own model; ModelDataUrl has no place in it.")
        return Served(entry.name, entry.task, environment.engine_options(environ), env)
    runtime = next((candidate for candidate in IMAGES if name in candidate.repositories), None)
    if runtime is None:
        raise BadRequest(f"Image {image!r} is not one that Hearth has a runtime for. Known are: {known()}.")
    options = environment.tgi_options(environ) | environment.engine_options(environ) if runtime.options else {}
    task = environment.task(environ) or runtime.task
    return Served(_model(runtime, container, environ), task, options, env)


def runs_engine(container: Mapping[str, Any]) -> bool:
    """Whether the runtime of the container's image is always vLLM."""
    name = repository(container.get("Image", ""))
    return any(name in each.repositories and (each.options or each.task in ENGINE_TASKS) for each in IMAGES)


def check_remote(model: str) -> None:
    """Raises BadRequest for what is, or may be, a file of this machine."""
    hub = _HUB_ID.fullmatch(model) and not Path(model).exists()
    if not (model.startswith("s3://") or model in catalogue() or hub or model == external.MODEL):
        raise BadRequest(
            f"Model {model!r}: give an s3:// address, a Hugging Face id or one of {', '.join(catalogue())}.",
            field="model",
        )


def artifact(container: Mapping[str, Any]) -> str | None:
    """`s3://` address of the container's model data. Raises BadRequest for any other."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    address: str | None = source.get("S3Uri") or container.get("ModelDataUrl")
    if address is not None and not address.startswith("s3://"):
        raise BadRequest(f"Model data at {address!r}: only s3:// addresses are read.")
    return address


def _model(runtime: Image, container: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    named = next((environ[key] for key in HUB_VARIABLES if environ.get(key)), None) if runtime.hub else None
    data = artifact(container)
    if named is None or named == ARTIFACTS:
        if data is None:
            asked = f"or one of {', '.join(HUB_VARIABLES)} in Environment " if runtime.hub else ""
            raise BadRequest(f"Image {container.get('Image')!r} has no model: ModelDataUrl {asked}must name one.")
        return data
    if named.startswith("s3://"):
        return named
    if named not in catalogue() and not _HUB_ID.fullmatch(named):
        raise BadRequest(
            f"{named!r} is neither a Hugging Face id such as org/name nor one of {', '.join(catalogue())}; "
            "paths are not read."
        )
    return named
