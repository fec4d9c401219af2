"""ONNX models in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.formats import ModelFile
from server.dialects.tables import Rows
from server.errors import BadRequest
from server.replicas.options import PredictOptions
from server.replicas.predictors.predictor import Traits, in_order, package

TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}  # fmt: skip
"""Inputs that rows can become."""


class OnnxSession:
    """A graph. With one input, the rows are its tensor; with several, each takes a column, by name or in order."""

    def __init__(self, session: Any, output: str, refusals: tuple[type[Exception], ...]) -> None:
        self._session = session
        self._output = output
        self._inputs = session.get_inputs()
        sizes = {node.shape[0] for node in self._inputs if node.shape and isinstance(node.shape[0], int)}
        many = len(self._inputs) > 1
        self.traits = Traits(
            columns=tuple(node.name for node in self._inputs) if many else None,
            width=len(self._inputs) if many else None,
            rows_per_call=next(iter(sizes), None),
            refusals=(ValueError, TypeError, *refusals),
        )

    @classmethod
    def load(cls, file: ModelFile, options: PredictOptions, threads: int) -> OnnxSession:
        """Raises BadRequest for a graph that does not load, or whose inputs or output are no tensors."""
        runtime = package("onnxruntime", "onnxruntime")
        chosen = runtime.SessionOptions()
        chosen.intra_op_num_threads = threads
        chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = runtime.InferenceSession(
                str(file.path), sess_options=chosen, providers=runtime.get_available_providers()
            )
        except Exception as error:  # its errors share no base but this
            raise BadRequest(f"{file.path.name} cannot be loaded: {error}", field="model") from error
        for node in session.get_inputs():
            if node.type not in TYPES:
                raise BadRequest(f"input {node.name} of {file.path.name} is {node.type}, not a tensor", field="model")
        state = runtime.capi.onnxruntime_pybind11_state
        return cls(session, _output(session, options.output), (state.InvalidArgument, state.Fail))

    def arranged(self, rows: Rows) -> NDArray[Any]:
        if len(self._inputs) > 1:
            values = in_order(rows, self.traits.columns)
            if values.ndim != 2 or values.shape[1] != self.traits.width:
                named = ", ".join(node.name for node in self._inputs)
                raise BadRequest(f"a row must have a value for each of {named}")
            return values.astype(object)
        return self._tensor(self._inputs[0], rows.values)

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        if len(self._inputs) == 1:
            feed = {self._inputs[0].name: values}
        else:
            feed = {node.name: self._tensor(node, values[:, [place]]) for place, node in enumerate(self._inputs)}
        (found,) = self._session.run([self._output], feed)
        return np.asarray(found)

    def _tensor(self, node: Any, values: NDArray[Any]) -> NDArray[Any]:
        if len(node.shape) == 1 and values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if TYPES[node.type] is np.object_:
            return values.astype(str).astype(object)
        try:
            return values.astype(TYPES[node.type])
        except (ValueError, TypeError) as error:
            raise BadRequest(f"the values for {node.name} do not fit {node.type}: {error}") from None


def _output(session: Any, name: str | None) -> str:
    """The output that is answered: the one named, or the first."""
    outputs = {node.name: node.type for node in session.get_outputs()}
    chosen = name or next(iter(outputs))
    if chosen not in outputs:
        raise BadRequest(f"the model has no output {chosen}; it has {', '.join(outputs)}", field="engine.output")
    if not outputs[chosen].startswith("tensor("):
        raise BadRequest(
            f"output {chosen} is {outputs[chosen]}, not a tensor; convert the model without ZipMap (zipmap=False)",
            field="engine.output",
        )
    return str(chosen)
