"""Rows in bodies and predictions in answers: what goes in comes out, and nothing crashes a reader."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from server.dialects import tables
from server.dialects.predictions import answer, chosen
from server.dialects.tables import CSV, JSON, JSON_LINES, NPY, PARQUET, READERS, rows_of
from server.errors import BadRequest, ModelFailed, UnsupportedMedia

finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(finite, min_size=width, max_size=width), min_size=1)
)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(
    lambda text: text.strip() == text and not _is_number(text)
)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def written(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


@given(numbers)
def test_numbers_survive_each_kind_of_body(rows: list[list[float]]) -> None:
    array = np.array(rows)
    file = io.BytesIO()
    np.save(file, array)
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    as_json = json.dumps(rows).encode()
    for body, kind in ((written(rows), CSV), (as_json, JSON), (lines, JSON_LINES), (file.getvalue(), NPY)):
        assert np.array_equal(rows_of(body, kind).values, array), kind


@given(numbers)
def test_predictions_survive_each_kind_of_answer(rows: list[list[float]]) -> None:
    array = np.array(rows)
    for kind in (CSV, JSON, JSON_LINES, NPY):
        got = answer(array, kind, wrapped=False, one_line=False)
        assert isinstance(got.body, bytes)
        assert np.array_equal(rows_of(got.body, got.content_type).values, array), kind


@given(st.lists(st.tuples(words, finite | st.none()), min_size=1))
@example([("a,b", 1.0), ('say "x"', None)])
@example([("1_0", 1.0)])
def test_text_beside_numbers_survives(rows: list[tuple[str, float | None]]) -> None:
    expected = [[word, None if number is None else number] for word, number in rows]
    for body, kind in ((written(expected), CSV), (json.dumps(expected).encode(), JSON)):
        assert rows_of(body, kind).values.tolist() == expected


@given(st.binary(max_size=200), st.sampled_from(sorted(READERS)))
def test_any_bytes_are_read_or_refused(body: bytes, kind: str) -> None:
    with contextlib.suppress(BadRequest):
        assert rows_of(body, kind).values.size


@given(st.text("0123456789.,+-einfax_\"' \r\n\t", max_size=40))
def test_both_csv_readers_agree(text: str) -> None:
    """numpy's reader is only the fast way: where it reads a body at all, the careful one reads the same."""
    try:
        fast = rows_of(text.encode(), CSV).values
    except BadRequest:
        return
    if fast.dtype != object:
        careful = tables._cells(text)
        assert np.array_equal(fast, careful.astype(float), equal_nan=True)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_spoiled_npy_or_parquet_is_read_or_refused(place: int, value: int) -> None:
    array, npy, table = np.arange(40.0).reshape(10, 4), io.BytesIO(), io.BytesIO()
    np.save(npy, array)
    parquet.write_table(pa.table({"a": array[:, 0], "b": list("abcdefghij")}), table)
    for kind, file in ((NPY, npy), (PARQUET, table)):
        body = bytearray(file.getvalue())
        body[place % len(body)] = value
        with contextlib.suppress(BadRequest):
            assert rows_of(bytes(body), kind).values.size


def test_shapes_of_json() -> None:
    def shape(document: Any) -> tuple[int, ...]:
        return rows_of(json.dumps(document).encode(), JSON).values.shape

    assert shape([1, 2, 3]) == (1, 3)  # one row
    assert shape({"inputs": [1, 2, 3]}) == (1, 3)
    assert shape({"instances": [1, 2, 3]}) == (3, 1)  # an instance each
    assert shape([[[1, 2], [3, 4]]]) == (1, 2, 2)
    assert rows_of(b'{"instances": [[1]]}', JSON).wrapped
    assert math.isnan(rows_of(b"[[1, null]]", JSON).values[0, 1])


@pytest.mark.parametrize("body", [b"[[1, [2]]]", b'[["a", [2]]]', b"[[1" + b"0" * 400 + b"]]", b'[{"a": 1}, 2]'])
def test_odd_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        rows_of(body, JSON)


def test_parquet_columns() -> None:
    def body(**columns: Any) -> bytes:
        file = io.BytesIO()
        parquet.write_table(pa.table(columns), file)
        return file.getvalue()

    rows = rows_of(body(a=[1, None], b=[True, False], c=[0.5, 1.5]), PARQUET)
    assert rows.columns == ("a", "b", "c")
    assert rows.values[0].tolist() == [1.0, 1.0, 0.5]
    assert math.isnan(rows.values[1, 0])
    assert rows_of(body(a=["x", "y"], b=[1, 2]), PARQUET).values.tolist() == [["x", 1.0], ["y", 2.0]]
    with pytest.raises(BadRequest, match="column 'a' is list"):
        rows_of(body(a=[[1], [2]]), PARQUET)


def test_a_parquet_bomb_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": np.zeros(100_000)}), file, compression="zstd")
    monkeypatch.setattr(tables, "MAX_CELLS", 99_999)
    with pytest.raises(BadRequest, match="100000 values; at most 99999"):
        rows_of(file.getvalue(), PARQUET)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("", JSON), ("*/*", JSON), ("text/csv", CSV), ("text/*", CSV), ("application/x-npy", NPY),
     ("image/png, */*;q=0.1", JSON), ("text/csv;q=0.1, application/jsonlines", JSON_LINES), ("TEXT/CSV", CSV)],
)  # fmt: skip
def test_what_accept_chooses(accept: str, kind: str) -> None:
    assert chosen(accept, JSON) == kind


@pytest.mark.parametrize("accept", ["image/png", "text/html", "text/csv;q=0", "application/json;q=x"])
def test_what_cannot_be_answered(accept: str) -> None:
    with pytest.raises(UnsupportedMedia, match="known are"):
        chosen(accept, JSON)


def test_what_json_cannot_hold() -> None:
    bad = np.array([1.0, math.nan])
    with pytest.raises(ModelFailed, match="not finite"):
        answer(bad, JSON, wrapped=False, one_line=False)
    assert answer(bad, CSV, wrapped=False, one_line=False).body == b"1.0\nnan\n"


def test_one_line_of_csv() -> None:
    assert answer(np.array([0.5, 1.5]), CSV, wrapped=False, one_line=True).body == b"0.5,1.5\n"
    assert answer(np.array([[0.5, 1.5], [1, 2]]), CSV, wrapped=False, one_line=True).body == b"0.5,1.5\n1.0,2.0\n"
