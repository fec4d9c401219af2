"""What every framework's model looks like to the engine that batches its requests."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.dialects.tables import JSON, Rows
from server.errors import BadRequest

EXTRA = "tabular"
"""The optional group of packages that the frameworks come from."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the engine must know of a model to read for it, batch for it and answer for it."""

    columns: tuple[str, ...] | None = None
    """Names of its columns, where it has them; rows with named columns are put into this order."""
    width: int | None = None
    """Values in a row, where the model says so."""
    default_accept: str = JSON
    one_line_csv: bool = False
    refusals: tuple[type[Exception], ...] = field(default=(ValueError, TypeError))
    """What it raises for rows that do not fit it."""
    rows_per_call: int | None = None
    """None: any number. Some ONNX graphs are fixed to one."""


class Predictor(Protocol):
    """A loaded model. Used by one thread at a time."""

    traits: Traits

    def arranged(self, rows: Rows) -> NDArray[Any]:
        """The rows as the model takes them. Raises BadRequest."""
        ...

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        """One prediction for each row, along the first axis. Raises what the framework raises."""
        ...


def in_order(rows: Rows, columns: Sequence[str] | None) -> NDArray[Any]:
    """Values in the order of `columns`, where both the rows and the model name theirs."""
    if rows.columns is None or columns is None:
        return rows.values
    if missing := [name for name in columns if name not in rows.columns]:
        known = ", ".join(columns)[:500]
        raise BadRequest(f"the rows lack {', '.join(missing)[:200]}; the model's columns are {known}")
    if len(rows.columns) != len(columns):
        extra = [name for name in rows.columns if name not in columns]
        raise BadRequest(f"the rows have columns that the model does not know: {', '.join(extra)[:200]}")
    return rows.values[:, [rows.columns.index(name) for name in columns]]


def table(rows: Rows, traits: Traits, *, text: bool) -> NDArray[Any]:
    """Rows with two axes, in the model's order and width."""
    values = in_order(rows, traits.columns)
    if values.ndim != 2:
        raise BadRequest(f"the body has {values.ndim} axes; this model takes rows of plain values")
    if values.dtype == object and not text:
        raise BadRequest(f"{_first_text(values)}; this model takes numbers only (and no header line)")
    if traits.width is not None and values.shape[1] != traits.width:
        raise BadRequest(f"the rows have {values.shape[1]} values, but the model takes {traits.width}")
    return values


def _first_text(values: NDArray[Any]) -> str:
    for (row, column), cell in np.ndenumerate(values):
        if isinstance(cell, str):
            return f"row {row + 1}, value {column + 1} is text: {cell[:50]!r}"
    return "the rows hold text"


def package(module: str, name: str) -> Any:
    """The imported module. Raises BadRequest that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BadRequest(
            f"this model needs {name}, which cannot be imported ({error}); install it with: "
            f"pip install 'hearth[{EXTRA}]' (make setup EXTRAS=dev,{EXTRA})",
            field="model",
        ) from None
