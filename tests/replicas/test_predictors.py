"""Models without code: what they answer, in which form, batched, and what is refused."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from pyarrow import parquet

from server.errors import BadRequest
from server.replicas import runtimes
from server.replicas.predictors.engine import PredictEngine
from server.replicas.predictors.predictor import Predictor
from server.spec import Limits, VariantSpec
from tests.fixtures import brought
from tests.fixtures.brought import LABELS, ROWS, artifacts, client_of, csv, invoke

JSON, CSV, NPY, LINES, PARQUET = (
    "application/json", "text/csv", "application/x-npy", "application/jsonlines", "application/x-parquet"
)  # fmt: skip


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(array: Any, names: str = "abcd") -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({name: array[:, place] for place, name in enumerate(names)}), file)
    return file.getvalue()


def variant(folder: Path, **more: Any) -> VariantSpec:
    return VariantSpec(model=str(folder), **more)


BODIES: dict[str, tuple[str, Callable[[Any], bytes | str]]] = {
    "csv": (CSV, csv),
    "json": (JSON, lambda rows: json.dumps(rows.tolist())),
    "inputs": (JSON, lambda rows: json.dumps({"inputs": rows.tolist()})),
    "data": (JSON, lambda rows: json.dumps({"data": rows.tolist()})),
    "no type": ("", lambda rows: json.dumps(rows.tolist())),
    "lines": (LINES, lambda rows: "\n".join(json.dumps(row) for row in rows.tolist())),
    "npy": (NPY, npy),
    "float32 npy": (NPY, lambda rows: npy(np.asfortranarray(rows.astype(np.float32)))),
    "parquet": (PARQUET, table),
}


@pytest.mark.parametrize("kind", ["skops", "onnx"])
async def test_scikit_learn_answers_every_kind_of_body(kind: str, tmp_path: Path) -> None:
    model = (brought.scikit if kind == "skops" else brought.onnx)(tmp_path / "m")
    expected = model.predict(ROWS[:7]).tolist()
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        for content_type, made in BODIES.values():
            answer = await invoke(client, made(ROWS[:7]), content_type)
            assert (answer.status_code, answer.json()) == (200, expected), content_type
            assert answer.headers["content-type"] == JSON


async def test_answers_come_in_the_form_that_is_asked_for(tmp_path: Path) -> None:
    model = brought.scikit(tmp_path / "m")
    expected = model.predict_proba(ROWS[:3])
    async with client_of(variant(tmp_path / "m", engine={"output": "predict_proba"}), tmp_path) as client:
        got = {accept: await invoke(client, csv(ROWS[:3]), CSV, accept) for accept in (JSON, CSV, LINES, NPY)}
        assert got[JSON].json() == expected.tolist()
        assert [[float(cell) for cell in line.split(",")] for line in got[CSV].text.split()] == expected.tolist()
        assert [json.loads(line) for line in got[LINES].text.splitlines()] == expected.tolist()
        assert np.load(io.BytesIO(got[NPY].content)).tolist() == expected.tolist()
        assert {accept: answer.headers["content-type"] for accept, answer in got.items()} == {a: a for a in got}
        several = await invoke(client, csv(ROWS[:3]), CSV, "image/png, text/csv;q=0.5, application/json;q=0.9")
        assert several.headers["content-type"] == JSON
        instances = await invoke(client, json.dumps({"instances": ROWS[:2].tolist()}), JSON)
        assert instances.json() == {"predictions": expected[:2].tolist()}
        none = await invoke(client, csv(ROWS[:3]), CSV, "image/png")
        assert none.status_code == 415
        assert "application/jsonlines" in none.json()["error"]


@pytest.mark.parametrize("name", ["model.json", "model.ubj", "model.bst", "xgboost-model"])
async def test_xgboost_answers_as_its_container(name: str, tmp_path: Path) -> None:
    booster = brought.xgboost(tmp_path / "m", name)
    expected = booster.inplace_predict(ROWS[:3].astype(np.float32))
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        one_line = await invoke(client, csv(ROWS[:3]), CSV)
        assert one_line.headers["content-type"] == CSV
        assert np.allclose([float(each) for each in one_line.text.strip().split(",")], expected)
        as_json = await invoke(client, csv(ROWS[:3]), CSV, JSON)
        assert np.allclose(as_json.json(), expected)
        gap = await invoke(client, "1,,0.5,", CSV, JSON)  # an empty cell is a missing value
        missing = booster.inplace_predict(np.array([[1, np.nan, 0.5, np.nan]], dtype=np.float32))
        assert np.allclose(gap.json(), missing)


async def test_torchscript(tmp_path: Path) -> None:
    module = brought.torchscript(tmp_path / "m")
    with torch.inference_mode():
        expected = module(torch.tensor(ROWS[:3], dtype=torch.float32)).tolist()
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        answer = await invoke(client, json.dumps({"instances": ROWS[:3].tolist()}), JSON)
        assert np.allclose(answer.json()["predictions"], expected)
        wrong = await invoke(client, "[[1, 2, 3]]", JSON)
        assert wrong.status_code == 400
        assert "the model refuses the rows" in wrong.json()["error"]


async def test_boto3s_errors_carry_the_models_own(tmp_path: Path) -> None:
    brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        bad = await client.post("/endpoints/m/invocations", content=b"1,2", headers={"content-type": CSV})
        assert bad.status_code == 424
        assert bad.headers["x-amzn-errortype"] == "ModelError"
        assert bad.json()["OriginalStatusCode"] == 400
        assert "the rows have 2 values, but the model takes 4" in bad.json()["OriginalMessage"]
        kind = await client.post("/endpoints/m/invocations", content=b"x", headers={"content-type": "text/libsvm"})
        assert kind.json()["OriginalStatusCode"] == 415


BAD: dict[str, tuple[str, bytes, str]] = {
    "no rows": (CSV, b"\n\n", "no rows"),
    "empty array": (JSON, b"[]", "no rows"),
    "ragged csv": (CSV, b"1,2,3,4\n1,2,3\n", "row 2 has 3 values"),
    "ragged json": (JSON, b"[[1,2,3,4],[1,2]]", "row 2 has 2 values"),
    "text": (CSV, b"a,b,c,d\n1,2,3,4\n", "could not convert|refuses"),
    "quotes": (CSV, b'1,2,3,"4', "not CSV"),
    "latin": (CSV, b"1,2,3,\xe4", "UTF-8"),
    "broken json": (JSON, b"[[1,2,3,4]", "not valid JSON"),
    "json number": (JSON, b"5", "array"),
    "json keys": (JSON, b'{"rows": [[1,2,3,4]]}', "instances, inputs, data"),
    "two keys": (JSON, b'{"inputs": [[1,2,3,4]], "data": 1}', "instances, inputs, data"),
    "nan": (JSON, b"[[1,2,3,NaN]]", "not valid JSON"),
    "deep": (JSON, b"[" * 100 + b"]" * 100, "nested"),
    "line": (LINES, b"[1,2,3,4]\n[1,2\n", "line 2"),
    "objects": (JSON, b'[[1,2,3,{"a":1}]]', "an object"),
    "npy cut": (NPY, npy(ROWS)[:-8], "holds 6392 bytes"),
    "npy header": (NPY, b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read"),
    "npy huge": (NPY, npy(ROWS).replace(b"(200, 4)", b"(10**9,)"), "cannot be read"),
    "npz": (NPY, b"PK\x03\x04", "no NPY"),
    "complex": (NPY, npy(ROWS.astype(complex)), "complex"),
    "parquet cut": (PARQUET, table(ROWS)[:-20], "Parquet"),
    "parquet text": (PARQUET, b"PAR1 hello PAR1", "Parquet"),
}


async def test_bad_bodies_are_refused_by_name(tmp_path: Path) -> None:
    brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        for name, (content_type, body, said) in BAD.items():
            answer = await invoke(client, body, content_type)
            assert answer.status_code == 400, name
            assert any(each in answer.json()["error"] for each in said.split("|")), (name, answer.text)
        assert (await invoke(client, csv(ROWS[:1]), CSV)).status_code == 200


async def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([Bomb(tmp_path / "went off")], dtype=object), allow_pickle=True)
    brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        answer = await invoke(client, file.getvalue(), NPY)
    assert answer.status_code == 400
    assert not (tmp_path / "went off").exists()


async def test_a_body_that_is_too_large_is_the_guards(tmp_path: Path) -> None:
    brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m", limits=Limits(max_body_bytes=100)), tmp_path) as client:
        assert (await invoke(client, "1,2,3,4\n" * 100, CSV)).status_code == 413


async def test_columns_go_by_their_names(tmp_path: Path) -> None:
    """A model that knows its columns takes records and Parquet in any order of them."""
    import xgboost as xgb

    names = ["a", "b", "c", "d"]
    booster = xgb.train({}, xgb.DMatrix(ROWS, label=LABELS, feature_names=names), 3)
    (tmp_path / "m").mkdir()
    booster.save_model(tmp_path / "m" / "model.json")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        plain = (await invoke(client, csv(ROWS[:5]), CSV, JSON)).json()
        records = [dict(zip("dcba", row[::-1], strict=True)) for row in ROWS[:5].tolist()]
        assert (await invoke(client, json.dumps(records), JSON, JSON)).json() == plain
        lines = "\n".join(map(json.dumps, records))
        assert (await invoke(client, lines, LINES, JSON)).json() == plain
        columns = {"inputs": {name: [record[name] for record in records] for name in "bdac"}}
        assert (await invoke(client, json.dumps(columns), JSON, JSON)).json() == plain
        assert (await invoke(client, table(ROWS[:5, ::-1], "dcba"), PARQUET, JSON)).json() == plain
        lacking = await invoke(client, '[{"a": 1, "b": 2, "c": 3}]', JSON)
        assert "the rows lack d" in lacking.json()["error"]


async def test_text_columns_reach_a_pipeline(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    (tmp_path / "m").mkdir()
    colours = np.array([["red", "round"], ["blue", "round"], ["red", "square"], ["blue", "square"]], dtype=object)
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(colours, ["yes", "no", "yes", "no"])
    skops.io.dump(pipeline, tmp_path / "m" / "pipeline.skops")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        assert (await invoke(client, "red,round\nblue,square\n", CSV)).json() == ["yes", "no"]
        assert (await invoke(client, "red,round\n", CSV, NPY)).status_code == 200
        assert (await invoke(client, '{"instances": [["blue", "round"]]}', JSON)).json() == {"predictions": ["no"]}
        assert (await invoke(client, "green,round\n", CSV)).status_code == 400


async def test_an_onnx_graph_with_an_input_for_each_column(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    nodes = [helper.make_node("Add", ["left", "right"], ["sum"])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("left", "right")]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "adds", inputs, [output])
    (tmp_path / "m").mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m" / "a.onnx")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        assert (await invoke(client, '[{"right": 2, "left": 1}, {"right": 5, "left": 3}]', JSON)).json() == [[3], [8]]
        assert (await invoke(client, "1,2\n3,5\n", CSV)).json() == [[3], [8]]
        assert (await invoke(client, "1,x\n", CSV)).status_code == 400


async def test_50_requests_at_once_share_calls_and_one_bad_row_fails_alone(tmp_path: Path) -> None:
    model = brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m", engine={"max-batch": 16}), tmp_path) as client:
        engine = client.runtime.engines.payload
        assert isinstance(engine, PredictEngine)
        counted = Counted(engine._predictor)
        engine._predictor = counted
        bodies = [csv(ROWS[at : at + 1 + at % 3]) for at in range(50)]
        bodies[20], bodies[30] = "1,2,3,inf", "1,2,3"  # scikit-learn refuses the first, its width the second
        answers = await asyncio.gather(*(invoke(client, body, CSV) for body in bodies))
    for at, answer in enumerate(answers):
        if at in (20, 30):
            assert answer.status_code == 400
        else:
            assert answer.json() == model.predict(ROWS[at : at + 1 + at % 3]).tolist()
    assert "infinity" in answers[20].json()["error"]
    assert max(counted.calls) > 3  # more rows in one call than any request had
    assert len(counted.calls) < 50


class Counted:
    """A predictor that notes how many rows each call has."""

    def __init__(self, inner: Predictor) -> None:
        self.traits = inner.traits
        self.arranged = inner.arranged
        self.calls: list[int] = []
        self._inner = inner

    def predict(self, values: NDArray[Any]) -> NDArray[Any]:
        self.calls.append(len(values))
        return self._inner.predict(values)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "xgboost-model", "model.pt"])
async def test_pickles_are_refused_unless_allowed(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    save = torch.save if name.endswith(".pt") else joblib.dump
    save(Bomb(tmp_path / "went off"), folder / name)
    with pytest.raises(BadRequest, match="allow-pickle=true"):
        await runtimes.start("m", variant(folder), artifacts(tmp_path))
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize("allowed", [{"engine": {"allow-pickle": True}}, {"env": {"HEARTH_ALLOW_PICKLE": "1"}}])
async def test_allowed_pickles_are_served(allowed: dict[str, Any], tmp_path: Path) -> None:
    model = brought.scikit(tmp_path / "m")
    (tmp_path / "m" / "model.skops").unlink()
    joblib.dump(model, tmp_path / "m" / "model.joblib")
    async with client_of(variant(tmp_path / "m", **allowed), tmp_path) as client:
        assert (await invoke(client, csv(ROWS[:4]), CSV)).json() == model.predict(ROWS[:4]).tolist()


async def test_skops_types_must_be_trusted(tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    (tmp_path / "m").mkdir()
    skops.io.dump(FunctionTransformer(csv), tmp_path / "m" / "model.skops")
    with pytest.raises(BadRequest, match=r"brought\.csv.*HEARTH_SKOPS_TRUSTED"):
        await runtimes.start("m", variant(tmp_path / "m"), artifacts(tmp_path))


async def test_an_archive_is_served_like_its_folder(tmp_path: Path) -> None:
    model = brought.scikit(tmp_path / "m")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "m", ".")
    async with client_of(variant(tmp_path / "model.tar.gz"), tmp_path / "cache") as client:
        assert (await invoke(client, csv(ROWS[:4]), CSV)).json() == model.predict(ROWS[:4]).tolist()


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"max-model-len": 5}, "known are framework, allow-pickle"),
        ({"framework": "keras"}, "option framework"),
        ({"max-batch": 0}, "option max-batch"),
        ({"framework": "onnx"}, "holds no onnx model. Found: model.skops"),
        ({"output": "predict_log_odds"}, "has no predict_log_odds; it has predict"),
    ],
)
async def test_bad_options_are_named(engine: dict[str, Any], said: str, tmp_path: Path) -> None:
    brought.scikit(tmp_path / "m")
    with pytest.raises(BadRequest, match=said):
        await runtimes.start("m", variant(tmp_path / "m", engine=engine), artifacts(tmp_path))


@pytest.mark.parametrize("name", ["model.skops", "model.json", "model.onnx"])
async def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_bytes(b'{"learner": "broken')
    with pytest.raises(BadRequest, match=name):
        await runtimes.start("m", variant(tmp_path / "m"), artifacts(tmp_path))


async def test_an_absent_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought.xgboost(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(BadRequest, match=r"needs xgboost-cpu.*hearth\[tabular\]"):
        await runtimes.start("m", variant(tmp_path / "m"), artifacts(tmp_path))


async def test_a_stopped_engine_says_so(tmp_path: Path) -> None:
    brought.scikit(tmp_path / "m")
    async with client_of(variant(tmp_path / "m"), tmp_path) as client:
        runtime = client.runtime
        assert runtime.alive()
        assert isinstance(runtime.engines.payload, PredictEngine)
        await runtime.stop()
        assert not runtime.alive()
        assert (await invoke(client, csv(ROWS[:1]), CSV)).status_code == 503
