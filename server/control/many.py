"""Containers in MultiModel mode: what they may say, and how they are run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.control import images
from server.errors import BadRequest
from server.spec import ENGINE_TASKS, ModelCache

Document = Mapping[str, Any]

MULTI_MODEL = "MultiModel"
CONFIG = "MultiModelConfig"
ARCHIVES = (".tar.gz", ".tgz", ".tar")


def is_many(container: Document) -> bool:
    return container.get("Mode") == MULTI_MODEL


def check(container: Document) -> None:
    """Raises BadRequest for a container that says what does not go with its mode."""
    if not is_many(container):
        if CONFIG in container:
            raise BadRequest(f"{CONFIG} needs Mode {MULTI_MODEL}.", field="multiModelConfig")
        return
    if "ModelPackageName" in container:
        raise BadRequest(
            f"Mode {MULTI_MODEL} needs Image and ModelDataUrl; a model package holds one model.", field="mode"
        )
    if "ModelDataSource" in container:
        raise BadRequest(f"ModelDataSource cannot be used with Mode {MULTI_MODEL}.", field="modelDataSource")
    url = container.get("ModelDataUrl")
    if not url:
        raise BadRequest(f"Mode {MULTI_MODEL} needs the ModelDataUrl of a prefix.", field="modelDataUrl")
    if url.endswith(ARCHIVES):
        raise BadRequest(
            f"With Mode {MULTI_MODEL} ModelDataUrl is the prefix below which all models are, not the archive of one.",
            field="modelDataUrl",
        )


def cache(container: Document) -> ModelCache | None:
    """Whether its models stay loaded; None for a container of one model."""
    if not is_many(container):
        return None
    return "Disabled" if container.get(CONFIG, {}).get("ModelCacheSetting") == "Disabled" else "Enabled"


def served(container: Document) -> images.Served:
    """See `images.served`. Raises BadRequest also for what cannot hold many models."""
    found = images.served(container)
    if not is_many(container):
        return found
    image = container.get("Image")
    if images.runs_engine(container) or found.task in ENGINE_TASKS:
        raise BadRequest(f"Image {image!r} is served with vLLM, which holds one model; it cannot be {MULTI_MODEL}.")
    if found.model != container.get("ModelDataUrl"):
        raise BadRequest(
            f"Environment names the model {found.model!r}; with Mode {MULTI_MODEL} all models are below ModelDataUrl."
        )
    return found
