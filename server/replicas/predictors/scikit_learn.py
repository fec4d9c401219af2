"""scikit-learn models: skops files, and pickles where the deployer allowed them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.formats import ModelFile
from server.dialects.tables import Rows
from server.errors import BadRequest
from server.replicas.options import PredictOptions
from server.replicas.predictors.predictor import Traits, package, table

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
"""Methods that give one answer for each row."""

OWN_TYPES = tuple(
    f"sklearn.{name}"
    for name in (
        "tree._tree.Tree", "ensemble._hist_gradient_boosting.predictor.TreePredictor", "neighbors._kd_tree.KDTree",
        "neighbors._ball_tree.BallTree", "metrics._dist_metrics.EuclideanDistance64",
        "calibration._CalibratedClassifier", "calibration._SigmoidCalibration",
        "feature_selection._univariate_selection.f_classif", "gaussian_process.kernels.ConstantKernel",
        "gaussian_process.kernels.Product", "gaussian_process.kernels.RBF",
        "gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "neural_network._stochastic_optimizers.AdamOptimizer", "_loss.loss.HalfTweedieLossIdentity",
    )
)  # fmt: skip
"""Parts of scikit-learn's own classifiers and regressors that skops does not list: they hold numbers, and loading them
runs nothing that the file says."""


class ScikitLearn:
    """Calls one method of an estimator or a pipeline."""

    def __init__(self, model: Any, method: str) -> None:
        self._call = getattr(model, method)
        names, width = getattr(model, "feature_names_in_", None), getattr(model, "n_features_in_", None)
        self.traits = Traits(
            columns=None if names is None else tuple(map(str, names)), width=None if width is None else int(width)
        )

    @classmethod
    def load(cls, file: ModelFile, options: PredictOptions, _threads: int) -> ScikitLearn:
        """Raises BadRequest for types that skops does not trust, or a method that the model has not."""
        package("sklearn", "scikit-learn")
        model = package("joblib", "joblib").load(file.path) if file.pickled else _from_skops(file, options)
        method = options.output or "predict"
        if method not in METHODS or not hasattr(model, method):
            has = ", ".join(name for name in METHODS if hasattr(model, name)) or "none of them"
            raise BadRequest(f"{type(model).__name__} has no {method}; it has {has}", field="engine.output")
        # A model that was fitted on named columns warns at each call with unnamed ones; the order is ours to keep.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return cls(model, method)

    def arranged(self, rows: Rows) -> NDArray[Any]:
        values = table(rows, self.traits, text=True)
        if values.dtype == object and self.traits.width is None and values.shape[1] == 1:
            return values[:, 0]  # texts for a vectorizer, which takes a plain list of them
        return values

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        result = self._call(values)
        return np.asarray(result.toarray() if hasattr(result, "toarray") else result)


def _from_skops(file: ModelFile, options: PredictOptions) -> Any:
    skops = package("skops.io", "skops")
    trusted = [*OWN_TYPES, *(name.strip() for name in options.trusted.split(",") if name.strip())]
    try:
        unknown = sorted(set(skops.get_untrusted_types(file=file.path)) - set(trusted))
        if not unknown:
            return skops.load(file.path, trusted=trusted)
    except Exception as error:  # its reader fails in many ways on a broken file
        said = f"{type(error).__name__}: {error}"
        raise BadRequest(f"{file.path.name} cannot be loaded: {said}", field="model") from error
    raise BadRequest(
        f"{file.path.name} holds types that skops does not trust: {', '.join(unknown)}. If you do, name them in the "
        "engine option trusted (or HEARTH_SKOPS_TRUSTED), with commas.",
        field="engine.trusted",
    )
