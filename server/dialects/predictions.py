"""Predictions as bodies: JSON, JSON Lines, CSV and NPY, whichever a request's Accept asks for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.dialects.engine import Answer
from server.dialects.tables import CSV, JSON, JSON_LINES, NPY
from server.errors import ModelFailed, UnsupportedMedia

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def chosen(accept: str, default: str) -> str:
    """The content type of the answer. Raises UnsupportedMedia when `accept` names none that there is."""
    wanted = sorted((_weighed(each) for each in accept.split(",") if each.strip()), key=lambda pair: -pair[1])
    if not wanted:
        return default
    for media_type, weight in wanted:
        family = media_type.partition("/")[0]
        if weight > 0 and media_type in WRITERS:
            return media_type
        if weight > 0 and media_type in ("*/*", "application/octet-stream", f"{default.partition('/')[0]}/*"):
            return default
        if weight > 0 and media_type == f"{family}/*" and family in ("application", "text"):
            return JSON if family == "application" else CSV
    raise UnsupportedMedia(f"Accept: {accept[:100]} cannot be answered; known are {', '.join(WRITERS)}", field="Accept")


def answer(predictions: NDArray[Any], media_type: str, *, wrapped: bool, one_line: bool) -> Answer:
    """`predictions` along the first axis. `wrapped`: JSON is ``{"predictions": [...]}`` instead of a bare array.
    `one_line`: CSV has the predictions of all rows in one line, where each is a single value."""
    if media_type == CSV and one_line and predictions.ndim == 1:
        predictions = predictions[np.newaxis, :]
    listed = {"predictions": predictions.tolist()} if wrapped and media_type == JSON else None
    return Answer(_json(listed) if listed else WRITERS[media_type](predictions), media_type)


def _json(value: Any) -> bytes:
    try:
        return _ENCODER.encode(value).encode(errors="replace")
    except ValueError:
        raise ModelFailed("the model answered a number that is not finite; CSV and NPY can hold it") from None
    except TypeError as error:
        raise ModelFailed(f"the model answered what JSON cannot hold: {error}") from None


def _json_lines(predictions: NDArray[Any]) -> bytes:
    return b"".join(_json(row) + b"\n" for row in predictions.tolist())


def _csv(predictions: NDArray[Any]) -> bytes:
    text = io.StringIO()
    rows = predictions.reshape(len(predictions), -1).tolist()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="replace")


def _npy(predictions: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, predictions.astype(str) if predictions.dtype == object else predictions, allow_pickle=False)
    return file.getvalue()


def _weighed(text: str) -> tuple[str, float]:
    """One entry of an Accept header and its quality."""
    media_type, *parameters = (part.strip() for part in text.lower().split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return media_type, float(weight)
    except ValueError:
        return media_type, 0.0


WRITERS: Mapping[str, Callable[[NDArray[Any]], bytes]] = {
    JSON: lambda predictions: _json(predictions.tolist()),
    CSV: _csv,
    JSON_LINES: _json_lines,
    NPY: _npy,
}
"""By content type."""
