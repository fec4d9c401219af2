"""How many models a replica may hold: from the variant's options and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from server.errors import BadRequest
from server.replicas.options import HandlerOptions, Options, PredictOptions, names, read
from server.spec import VariantSpec

MEGABYTE = 1024**2


class ManyOptions(Options):
    """Bounds of one replica. Of AWS's, the two times are the defaults here."""

    ENVIRON: ClassVar[Mapping[str, str]] = {
        "HEARTH_MODEL_CACHE_MB": "model_cache_mb",
        "HEARTH_MAX_MODELS": "max_models",
        "HEARTH_MODEL_DISK_MB": "model_disk_mb",
        "HEARTH_MODEL_LOADS": "model_loads",
        "HEARTH_MODEL_WAIT_S": "model_wait_s",
        "HEARTH_MODEL_LOAD_TIMEOUT_S": "model_load_timeout_s",
        "HEARTH_MODEL_CHECK_S": "model_check_s",
    }

    model_cache_mb: int | None = Field(None, ge=1)
    """MiB of memory that loaded models may take; None: half of the machine's."""
    max_models: int = Field(1000, ge=1)
    """Models that may be loaded at once."""
    model_disk_mb: int = Field(16 * 1024, ge=1)
    """MiB that files of models may take on disk."""
    model_loads: int = Field(4, ge=1, le=64)
    """Models that may be loading at once."""
    model_wait_s: float = Field(60.0, gt=0)
    """Time a request waits for its model to be loaded."""
    model_load_timeout_s: float = Field(360.0, gt=0)
    """Time fetching and loading a model may take."""
    model_check_s: float = Field(10.0, ge=0)
    """A loaded model in use is compared with what lies below the prefix at most so often."""


def of(variant: VariantSpec) -> tuple[ManyOptions, VariantSpec]:
    """The replica's own options, and the variant as its models see it. Raises BadRequest that names what is wrong."""
    own, theirs = names(ManyOptions), {*names(PredictOptions), *names(HandlerOptions)}
    for name in variant.engine:
        if name not in own and name not in theirs:
            raise BadRequest(
                f"option {name!r} is unknown; known are {', '.join([*own, *sorted(theirs)])}", field=f"engine.{name}"
            )
    mine = {name: value for name, value in variant.engine.items() if name in own}
    rest = {name: value for name, value in variant.engine.items() if name not in own}
    chosen = read(ManyOptions, variant.model_copy(update={"engine": mine}))
    # What SageMaker's own containers find in their environment when they hold many models.
    environ = {"SAGEMAKER_MULTI_MODEL": "true", **variant.env}
    return chosen, variant.model_copy(update={"engine": rest, "env": environ})
