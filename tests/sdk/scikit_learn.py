"""scikit-learn models through ModelBuilder: without code (skops), then with inference.py; predict, update, delete."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import skops.io
from sagemaker.core import image_uris
from sagemaker.core.helper.iam_role_resolver import IamRoleResolver
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.inference_config import ServerlessInferenceConfig
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.training.configs import SourceCode
from sagemaker.serve import ModelBuilder
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

NAME = f"iris-{uuid.uuid4().hex[:8]}"
INFERENCE = """
import json
import os

import skops.io


def model_fn(model_dir):
    file = os.path.join(model_dir, "weights.skops")
    return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))


def predict_fn(rows, model):
    return {"species": [int(each) for each in model.predict(rows)]}


def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
"""


def archive(folder: str, model: LogisticRegression, name: str) -> str:
    skops.io.dump(model, Path(folder) / name)
    with tarfile.open(Path(folder) / "model.tar.gz", "w:gz") as tar:
        tar.add(Path(folder) / name, name)
    return f"{folder}/model.tar.gz"


def predict(endpoint: Endpoint, rows: Any, expected: list[int]) -> None:
    """CSV, JSON and NPY, there and back."""
    csv = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    answer = endpoint.invoke(body=csv, content_type="text/csv", accept="text/csv")
    assert [int(line) for line in answer.body.read().split()] == expected
    answer = endpoint.invoke(body=json.dumps(rows.tolist()), content_type="application/json")
    assert json.loads(answer.body.read()) == expected
    npy = io.BytesIO()
    np.save(npy, rows)
    answer = endpoint.invoke(body=npy.getvalue(), content_type="application/x-npy", accept="application/x-npy")
    assert np.load(io.BytesIO(answer.body.read())).tolist() == expected


def without_code(builder: ModelBuilder, model: LogisticRegression, rows: Any) -> Endpoint:
    name = f"{NAME}-plain"
    builder.build(model_name=name)
    endpoint = builder.deploy(endpoint_name=name, initial_instance_count=1)
    assert endpoint.endpoint_status == "InService"
    predict(endpoint, rows, model.predict(rows).tolist())
    assert [each.endpoint_name for each in Endpoint.get_all(name_contains=NAME)] == [name]
    return endpoint


def with_code(builder: ModelBuilder, model: LogisticRegression, rows: Any) -> Endpoint:
    name = f"{NAME}-code"
    builder.build(model_name=name)
    endpoint = builder.deploy(
        endpoint_name=name,
        serverless_inference_config=ServerlessInferenceConfig(memory_size_in_mb=2048, max_concurrency=2),
    )
    answer = endpoint.invoke(body=json.dumps(rows.tolist()), content_type="application/json")
    assert json.loads(answer.body.read()) == {"species": model.predict(rows).tolist()}
    return endpoint


def remove(name: str) -> None:
    """The endpoint, its configuration and its model."""
    endpoint = Endpoint.get(endpoint_name=name)
    config = EndpointConfig.get(endpoint_config_name=endpoint.endpoint_config_name)
    model = Model.get(model_name=config.production_variants[0].model_name)
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=120)
    config.delete()
    model.delete()


def main() -> None:
    session, roles = Session(default_bucket=NAME), IamRoleResolver()
    role = roles.create_execution_role("serving", role_name=NAME, s3_resource=NAME)
    image = image_uris.retrieve("sklearn", session.boto_region_name, version="1.4-2", instance_type="ml.m5.large")
    features, species = load_iris(return_X_y=True)
    model, rows = LogisticRegression(max_iter=500).fit(features, species), features[::15]
    common = {"image_uri": image, "role_arn": role, "instance_type": "ml.m5.large", "sagemaker_session": session}
    with TemporaryDirectory() as folder:
        plain = session.upload_data(archive(folder, model, "model.skops"), key_prefix="plain")
        bare = session.upload_data(archive(folder, model, "weights.skops"), key_prefix="bare")
        (Path(folder) / "code").mkdir()
        (Path(folder) / "code" / "inference.py").write_text(INFERENCE)
        source = SourceCode(source_dir=f"{folder}/code", entry_script="inference.py")

        first = without_code(ModelBuilder(s3_model_data_url=plain, **common), model, rows)
        remove(first.endpoint_name)
        second = with_code(ModelBuilder(s3_model_data_url=bare, source_code=source, **common), model, rows)
        remove(second.endpoint_name)
    bucket = session.boto_session.resource("s3").Bucket(NAME)
    bucket.objects.delete()
    bucket.delete()
    roles.delete_execution_role("serving", role_name=NAME)


if __name__ == "__main__":
    main()
