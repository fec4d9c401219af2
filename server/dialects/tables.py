"""Bodies that are rows of numbers or text: CSV, JSON, JSON Lines, NPY and Parquet, read in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.dialects.documents import json_type, parse_value
from server.errors import BadRequest, HearthError, UnsupportedMedia

JSON, JSON_LINES, CSV = "application/json", "application/jsonlines", "text/csv"
NPY, PARQUET = "application/x-npy", "application/x-parquet"

MAX_CELLS = 16_000_000
"""Numbers of one Parquet body, whose compressed size says nothing of them; other bodies are bounded by their size."""
MAX_DEPTH = 16
WRAPPERS = ("instances", "inputs", "data")
"""Keys under which a JSON body may hold its rows."""
NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class Rows:
    """`values`: rows along the first axis, numbers or (dtype object, two axes) numbers and text. `columns`: their
    names, where the body has them. `wrapped`: the body was ``{"instances": ...}``, which is answered in kind."""

    values: NDArray[Any]
    columns: tuple[str, ...] | None = None
    wrapped: bool = False


def rows_of(body: bytes, content_type: str) -> Rows:
    """Raises UnsupportedMedia for another content type, BadRequest for a body that is not what it says."""
    media_type = content_type.partition(";")[0].strip().lower()
    reader = READERS.get(media_type)
    if reader is None:
        known = ", ".join(name for name in READERS if name.startswith(("text/csv", "application/")))
        raise UnsupportedMedia(
            f"Content-Type {media_type[:100]} is not supported; this model accepts {known}", field="ContentType"
        )
    rows = reader(body)
    if rows.values.size == 0:
        raise BadRequest("the body holds no rows")
    return rows


def _from_json(body: bytes) -> Rows:
    document = parse_value(body, MAX_DEPTH)
    if not isinstance(document, dict):
        return _listed(document, flat_is_row=True)
    keys = [key for key in WRAPPERS if key in document]
    if len(keys) != 1 or len(document) != 1:
        named = ", ".join(str(key)[:50] for key in document) or "none"
        raise BadRequest(f"the body must be an array, or an object with one of {', '.join(WRAPPERS)}; it has {named}")
    held = document[keys[0]]
    if isinstance(held, dict):
        return _columns(held, keys[0])
    rows = _listed(held, flat_is_row=keys[0] != "instances")
    return Rows(rows.values, rows.columns, wrapped=keys[0] == "instances")


def _from_json_lines(body: bytes) -> Rows:
    lines = [line for line in body.splitlines() if line.strip()]
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            parsed.append(parse_value(line, MAX_DEPTH))
        except BadRequest as error:
            raise BadRequest(f"line {number}: {error.message}") from None
    return _listed(parsed, flat_is_row=False)


def _listed(value: Any, *, flat_is_row: bool) -> Rows:
    """Rows of a JSON array. `flat_is_row`: an array of plain values is one row, else each is a row of its own."""
    if not isinstance(value, list):
        raise BadRequest(f"the rows must be an array, not {json_type(value)}")
    if value and all(isinstance(each, dict) for each in value):
        return _records(value)
    if value and not any(isinstance(each, list) for each in value):
        value = [value] if flat_is_row else [[each] for each in value]
    return Rows(array_of(value))


def _records(records: Sequence[Mapping[str, Any]]) -> Rows:
    names = tuple(records[0])
    for number, record in enumerate(records, 1):
        if record.keys() != records[0].keys():
            odd = ", ".join(sorted(map(str, record.keys() ^ records[0].keys())))[:200]
            raise BadRequest(f"row {number} and row 1 have different columns: {odd}")
    return Rows(array_of([[record[name] for name in names] for record in records]), names)


def _columns(columns: Mapping[str, Any], key: str) -> Rows:
    """Rows of ``{"name": [value, ...], ...}``."""
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise BadRequest(f"the columns in {key} must be arrays of one length", field=key)
    return Rows(array_of([list(row) for row in zip(*columns.values(), strict=True)]), tuple(columns))


def array_of(rows: list[Any]) -> NDArray[Any]:
    """Nested lists as an array: null is NaN; numbers beside text keep their type (dtype object)."""
    try:
        array = np.array(rows)
    except (ValueError, OverflowError):
        raise BadRequest(_ragged(rows)) from None
    if array.dtype.kind in "biuf":
        return array
    cells = np.array(rows, dtype=object)
    kinds = {type(cell) for cell in cells.flat}
    if wrong := kinds - {int, float, bool, str, type(None)}:
        raise BadRequest(_ragged(rows) if list in wrong else f"a value is {json_type(wrong.pop()())}")
    if str not in kinds:
        return _numbers(cells)
    if cells.ndim != 2:
        raise BadRequest("text may stand in rows of plain values only")
    return cells


def _numbers(cells: NDArray[Any]) -> NDArray[Any]:
    try:
        return cells.astype(np.float64)
    except OverflowError:
        raise BadRequest("a number is too large") from None


def _ragged(rows: list[Any]) -> str:
    first = len(rows[0]) if isinstance(rows[0], list) else -1
    for number, row in enumerate(rows, 1):
        length = len(row) if isinstance(row, list) else -1
        if length != first:
            return f"row {number} has {max(length, 1)} values, but row 1 has {max(first, 1)}"
    return "the rows are not of one shape"


def _from_csv(body: bytes) -> Rows:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be decoded") from None
    if not text.strip():
        raise BadRequest("the body holds no rows")
    try:
        return Rows(np.loadtxt(io.StringIO(text), dtype=np.float64, delimiter=",", comments=None, ndmin=2))
    except ValueError:
        return Rows(_cells(text))


def _cells(text: str) -> NDArray[Any]:
    """CSV with quotes, empty cells (NaN) or text, which numpy's own reader does not take."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise BadRequest(f"the body is not CSV: {error}") from None
    for number, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise BadRequest(f"row {number} has {len(line)} values, but row 1 has {len(lines[0])}")
    return array_of([[_cell(cell.strip()) for cell in line] for line in lines])


def _cell(text: str) -> float | str | None:
    if not text:
        return None
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _from_npy(body: bytes) -> Rows:
    file = io.BytesIO(body)
    if not body.startswith(NPY_MAGIC):
        raise BadRequest("the body is no NPY file")
    try:
        form: Any = np.lib.format
        version = form.read_magic(file)
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.kind not in "biufUS":
            raise BadRequest(f"an NPY file of {dtype} is not taken, only of numbers and text; pickles never are")
        data = body[file.tell() :]
        if any(side < 0 for side in shape) or len(data) != int(np.prod(shape, dtype=object)) * dtype.itemsize:
            raise BadRequest(f"the NPY file says {shape} of {dtype}, but holds {len(data)} bytes")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        array = array.astype(str).astype(object) if dtype.kind in "US" else array
    except HearthError:
        raise
    except Exception as error:  # numpy's header parser fails in its own ways
        raise BadRequest(f"the NPY file cannot be read: {error}") from None
    if array.ndim == 0:
        raise BadRequest("the NPY file holds a single value, not rows")
    if array.ndim == 1:
        array = array[np.newaxis, :]
    return Rows(array)


def _from_parquet(body: bytes) -> Rows:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UnsupportedMedia(
            "Parquet needs pyarrow, which is not installed: pip install 'hearth[tabular]'", field="ContentType"
        ) from None
    try:
        file = parquet.ParquetFile(pa.BufferReader(body), memory_map=False)
        count = file.metadata.num_rows * file.metadata.num_columns
        if count > MAX_CELLS:
            raise BadRequest(f"the Parquet file has {count} values; at most {MAX_CELLS} are allowed")
        table = file.read(use_threads=False)
        return Rows(_table_values(table), tuple(table.column_names))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadRequest(f"the Parquet file cannot be read: {error}") from None


def _table_values(table: Any) -> NDArray[Any]:
    import pyarrow as pa

    columns: list[Any] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            columns.append(np.array(column.to_pylist(), dtype=object))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            columns.append(column.cast(pa.float64()).to_numpy())
        else:
            raise BadRequest(f"column {name!r} is {kind}; numbers, booleans and text are taken")
    return np.stack(columns, axis=1) if columns else np.empty((0, 0))


READERS: Mapping[str, Callable[[bytes], Rows]] = {
    CSV: _from_csv,
    JSON: _from_json,
    JSON_LINES: _from_json_lines,
    "application/x-jsonlines": _from_json_lines,
    NPY: _from_npy,
    PARQUET: _from_parquet,
    "": _from_json,
    "application/octet-stream": _from_json,
}
"""By content type; boto3 sends the last when it is told none."""
