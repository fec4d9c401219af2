"""Whether a LoRA adapter is of the model that it is put on, by the shapes of both, and whether it is of numbers.

vLLM copies an adapter's matrices into its own without looking: smaller ones fill a corner, and answers are nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from server.errors import BadRequest

_MATRIX = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")
Shape = tuple[int, ...]


def check(adapter: Path, model: Path) -> None:
    """`adapter`: PEFT's file of weights; `model`: the folder of the base's. Raises BadRequest that names the module.

    A module whose weight the base's files do not name so (a quantized one) is left to the engine.
    """
    base = shapes(*sorted(model.glob("*.safetensors")))
    for name, shape in shapes(adapter).items():
        found = _MATRIX.fullmatch(name)
        weight = base.get(f"{found['module']}.weight") if found else None
        if found is None or weight is None or len(weight) != 2:
            continue
        side, (out, into) = found["side"], weight
        expected, given = (into, shape[-1]) if side == "A" else (out, shape[0])
        if len(shape) != 2 or expected != given:
            raise BadRequest(
                f"the adapter is not of this model: lora_{side} of {found['module']} is {_shown(shape)}, and the "
                f"model's weight is {_shown(weight)}",
                field="artifactUrl",
            )


def check_numbers(adapter: Path) -> None:
    """Raises BadRequest for weights that are no finite numbers: in one batch they would reach other requests too."""
    with safe_open(adapter, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            if not tensors.get_tensor(name).isfinite().all():
                raise BadRequest(f"the adapter's {name} holds numbers that are not finite", field="artifactUrl")


def shapes(*files: Path) -> Mapping[str, Shape]:
    """Of all tensors by their names. Raises BadRequest for a file that is not of safetensors' format."""
    found: dict[str, Shape] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as tensors:
                found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BadRequest(f"{path.name} cannot be read: {error}", field="artifactUrl") from error
    return found


def _shown(shape: Shape) -> str:
    return " x ".join(map(str, shape))
