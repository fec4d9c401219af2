"""Options of the runtimes that serve a customer's own model: from the variant's options and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError

from models.formats import Framework
from server.errors import BadRequest
from server.spec import Frozen, VariantSpec


class Options(Frozen):
    """What one runtime can be told."""

    ENVIRON: ClassVar[Mapping[str, str]] = {}
    """Variables that stand for options."""


class PredictOptions(Options):
    """How a model without code is loaded and asked."""

    ENVIRON: ClassVar[Mapping[str, str]] = {
        "HEARTH_FRAMEWORK": "framework",
        "HEARTH_ALLOW_PICKLE": "allow_pickle",
        "HEARTH_SKOPS_TRUSTED": "trusted",
        "HEARTH_OUTPUT": "output",
        "HEARTH_DTYPE": "dtype",
        "HEARTH_MAX_BATCH": "max_batch",
        "HEARTH_MAX_WAIT_MS": "max_wait_ms",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "default_accept",
    }

    framework: Framework | None = None
    """None: told by the files."""
    allow_pickle: bool = False
    """Load pickles and joblib files: loading one runs code."""
    trusted: str = ""
    """Types beyond skops' own list that a skops file may hold, with commas."""
    output: str | None = None
    """scikit-learn: the method to call; ONNX: the output to answer."""
    dtype: Literal["float32", "float64", "int64"] = "float32"
    """What a TorchScript model takes."""
    max_batch: int = Field(64, ge=1, le=4096)
    """Requests answered together at most; 1: none are."""
    max_wait_ms: float = Field(2.0, ge=0, le=1000)
    """How long a batch that is not full waits for more while there is company."""
    default_accept: str | None = None
    """Content type of answers to requests that do not ask for one; None: the framework's own."""


class HandlerOptions(Options):
    """How a customer's code is found and run."""

    ENVIRON: ClassVar[Mapping[str, str]] = {
        "SAGEMAKER_PROGRAM": "program",
        "SAGEMAKER_SUBMIT_DIRECTORY": "submit_directory",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "workers",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "timeout_s",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "default_accept",
    }

    program: str = "inference.py"
    submit_directory: str | None = None
    """Where the program lies; None: `code/` in the model's folder, or the folder itself."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that run the code; each loads the model."""
    timeout_s: float | None = Field(None, gt=0)
    """Time one answer may take before its worker is killed; None: the variant's `request_timeout_s`."""
    start_timeout_s: float = Field(900.0, gt=0)
    """Time `model_fn` may take."""
    install_timeout_s: float = Field(900.0, gt=0)
    """Time the installation of `requirements.txt` may take."""
    max_answer_bytes: int = Field(64 * 1024**2, ge=1)
    default_accept: str = "application/json"


Read = TypeVar("Read", bound=Options)


def names(kind: type[Options]) -> list[str]:
    """As the options are written."""
    return [field.replace("_", "-") for field in kind.model_fields]


def read(kind: type[Read], variant: VariantSpec) -> Read:
    """The options of `variant`. Raises BadRequest that names what is wrong and what is known."""
    given: dict[str, object] = {
        field: variant.env[name] for name, field in kind.ENVIRON.items() if variant.env.get(name)
    }
    known = names(kind)
    for name, value in variant.engine.items():
        if name not in known:
            raise BadRequest(f"option {name!r} is unknown; known are {', '.join(known)}", field=f"engine.{name}")
        given[name.replace("-", "_")] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]).replace("_", "-")
        raise BadRequest(f"option {name}: {problem['msg']}", field=f"engine.{name}") from None
