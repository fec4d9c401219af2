"""PyTorch models in TorchScript, and pickled modules where the deployer allowed them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.formats import ModelFile
from server.dialects.tables import Rows
from server.errors import BadRequest, ModelFailed
from server.replicas.options import PredictOptions
from server.replicas.predictors.predictor import Traits, package


class TorchScript:
    """A module called with one tensor; of several results, the first is the answer."""

    def __init__(self, module: Any, torch: Any, dtype: str, device: str) -> None:
        self._module = module
        self._torch = torch
        self._dtype = np.dtype(dtype)
        self._device = device
        self.traits = Traits(refusals=(ValueError, TypeError, RuntimeError, IndexError))

    @classmethod
    def load(cls, file: ModelFile, options: PredictOptions, _threads: int) -> TorchScript:
        torch = package("torch", "torch")
        if options.output is not None:
            raise BadRequest("of a PyTorch model's results the first is answered", field="engine.output")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript itself is deprecated, not the file
            try:
                if file.pickled:
                    module = torch.load(file.path, map_location=device, weights_only=False)
                else:
                    module = torch.jit.load(str(file.path), map_location=device)
            except Exception as error:
                raise BadRequest(f"{file.path.name} cannot be loaded: {error}", field="model") from error
        if not isinstance(module, torch.nn.Module):
            raise BadRequest(
                f"{file.path.name} holds {type(module).__name__}, not a module; weights alone need code/inference.py",
                field="model",
            )
        return cls(module.eval(), torch, options.dtype, device)

    def arranged(self, rows: Rows) -> NDArray[Any]:
        if rows.values.dtype == object:
            raise BadRequest("the rows hold text; this model takes numbers only")
        return rows.values.astype(self._dtype)

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        torch = self._torch
        with torch.inference_mode():
            found = self._module(torch.from_numpy(values).to(self._device))
        while isinstance(found, tuple | list) and found:
            found = found[0]
        if not isinstance(found, torch.Tensor):
            raise ModelFailed(f"the model answered {type(found).__name__}, not a tensor")
        found = found.float() if found.dtype in (torch.bfloat16, torch.float16) else found
        return np.asarray(found.cpu().numpy())
