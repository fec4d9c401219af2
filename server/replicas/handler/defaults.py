"""What SageMaker's inference toolkit does for the functions that a customer's `inference.py` leaves out.

The worker loads this file by its path; it imports nothing of Hearth, and numpy only where a body needs it.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
JSON_LINES = "application/jsonlines"
RAW_TYPES = ("text/plain", "text/event-stream", "application/octet-stream")
"""Content types in which the values of an iterator, texts or bytes, are sent as they are."""
TEXT_TYPES = (JSON, CSV)
"""Content types whose bodies reach `input_fn` as text."""


class BadBody(Exception):
    """A body that is not what its content type says."""

    status_code = 400


class Unsupported(Exception):
    """A content type that the default functions do not know."""

    status_code = 415


def model_fn(model_dir: str) -> NoReturn:
    raise NotImplementedError("inference.py defines no model_fn")


def input_fn(body: str | bytes, content_type: str) -> Any:
    """An array. Pickled arrays are refused."""
    import numpy as np

    media_type = _media_type(content_type)
    raw = body.encode() if isinstance(body, str) else body
    try:
        if media_type == JSON:
            return np.array(json.loads(raw))
        if media_type == CSV:
            return np.loadtxt(io.StringIO(raw.decode()), delimiter=",", ndmin=2, comments=None)
        if media_type == NPY:
            return np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadBody(f"the body is not {media_type}: {error}") from None
    raise Unsupported(f"Content-Type {content_type[:100]} is not supported; known are {JSON}, {CSV}, {NPY}")


def predict_fn(data: Any, model: Any) -> Any:
    """`model.predict(data)`, or the model called with it; a PyTorch module gets a tensor and keeps no gradients."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        parameter = next(model.parameters(), None)
        tensor = torch.as_tensor(data)
        if parameter is not None:
            tensor = tensor.to(device=parameter.device, dtype=parameter.dtype)
        with torch.inference_mode():
            return model(tensor)
    call: Callable[[Any], Any] | None = getattr(model, "predict", None) or (model if callable(model) else None)
    if call is None:
        raise NotImplementedError(f"inference.py defines no predict_fn, and {type(model).__name__} has no predict")
    return call(data)


def output_fn(prediction: Any, accept: str) -> tuple[bytes | Iterator[Any], str]:
    """JSON, CSV or NPY, whichever `accept` names first; an iterator's values one by one."""
    if isinstance(prediction, Iterator):
        return _parts(prediction, accept)
    for wanted in accept.split(","):
        media_type = _media_type(wanted)
        if media_type in ("*/*", "application/*", JSON):
            return json.dumps(_listed(prediction)).encode(), JSON
        if media_type in (CSV, NPY):
            return _array_bytes(prediction, media_type), media_type
    raise Unsupported(f"Accept: {accept[:100]} cannot be answered; known are {JSON}, {CSV}, {NPY}")


def _parts(predictions: Iterator[Any], accept: str) -> tuple[Iterator[Any], str]:
    """Each value as a line of JSON; as it is, where plain text or bytes are asked for."""
    for wanted in accept.split(","):
        media_type = _media_type(wanted)
        if media_type in ("*/*", "application/*", JSON, JSON_LINES):
            return (json.dumps(_listed(each)) + "\n" for each in predictions), JSON_LINES
        if media_type in RAW_TYPES:
            return predictions, media_type
    known = ", ".join((JSON_LINES, *RAW_TYPES))
    raise Unsupported(f"Accept: {accept[:100]} cannot be answered in parts; known are {known}")


def _array_bytes(prediction: Any, media_type: str) -> bytes:
    import numpy as np

    array = np.asarray(_listed(prediction))
    buffer = io.BytesIO()
    if media_type == NPY:
        np.save(buffer, array, allow_pickle=False)
    else:
        np.savetxt(buffer, np.atleast_1d(array), delimiter=",", fmt="%s")
    return buffer.getvalue()


def _listed(prediction: Any) -> Any:
    """Arrays and tensors as lists; everything else as it is."""
    if hasattr(prediction, "detach"):
        prediction = prediction.detach().cpu()
    return prediction.tolist() if hasattr(prediction, "tolist") else prediction


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()
