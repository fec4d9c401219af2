"""XGBoost models in its own formats (JSON, UBJ), and pickles where the deployer allowed them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.formats import ModelFile
from server.dialects.tables import CSV, Rows
from server.errors import BadRequest
from server.replicas.options import PredictOptions
from server.replicas.predictors.predictor import Traits, package, table


class XGBoost:
    """A booster; answers what `Booster.predict` does, up to the best iteration where it knows one."""

    def __init__(self, booster: Any, error: type[Exception]) -> None:
        self._booster = booster
        best = booster.attr("best_iteration")
        self._range = (0, 0) if best is None else (0, int(best) + 1)
        names = booster.feature_names
        self.traits = Traits(
            columns=None if names is None else tuple(names),
            width=int(booster.num_features()),
            default_accept=CSV,
            one_line_csv=True,
            refusals=(ValueError, TypeError, error),
        )

    @classmethod
    def load(cls, file: ModelFile, options: PredictOptions, threads: int) -> XGBoost:
        xgboost = package("xgboost", "xgboost-cpu")
        if options.output is not None:
            raise BadRequest("XGBoost models have one output; leave the option away", field="engine.output")
        booster = _unpickled(file) if file.pickled else _native(xgboost, file)
        booster.set_param({"nthread": threads})
        return cls(booster, xgboost.core.XGBoostError)

    def arranged(self, rows: Rows) -> NDArray[Any]:
        return table(rows, self.traits, text=False).astype(np.float32)

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        found = self._booster.inplace_predict(values, iteration_range=self._range, validate_features=False)
        return np.asarray(found)


def _native(xgboost: Any, file: ModelFile) -> Any:
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(file.path.read_bytes()))
    except (xgboost.core.XGBoostError, ValueError) as error:
        said = str(error).split("Stack trace")[0].strip()[:300]
        raise BadRequest(
            f"{file.path.name} is no model that this XGBoost reads: {said}. Files in the binary format of versions "
            "before 1.6 must be saved again as JSON or UBJ by the version that made them.",
            field="model",
        ) from None
    return booster


def _unpickled(file: ModelFile) -> Any:
    model = package("joblib", "joblib").load(file.path)
    return model.get_booster() if hasattr(model, "get_booster") else model
