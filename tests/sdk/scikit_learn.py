"""scikit-learn models through ModelBuilder: once without code (skops), once with inference.py; predict, delete."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import uuid
from pathlib import Path

import numpy as np
import skops.io
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Endpoint, EndpointConfig
from sagemaker.core.session_settings import SessionSettings
from sagemaker.core.training.configs import SourceCode
from sagemaker.serve import ModelBuilder
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ROLE = "arn:aws:iam::123456789012:role/hearth"
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
    return json.dumps(prediction), accept
"""


def archive(folder: Path, model: LogisticRegression, name: str) -> Path:
    skops.io.dump(model, folder / name)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(folder / name, name)
    return folder / "model.tar.gz"


def remove(endpoint: Endpoint, builder: ModelBuilder) -> None:
    config = EndpointConfig.get(endpoint_config_name=endpoint.endpoint_config_name)
    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=120)
    config.delete()
    builder.built_model.delete()


def without_code(session: Session, image: str, model: LogisticRegression, rows: np.ndarray, folder: Path) -> None:
    data = session.upload_data(str(archive(folder, model, "model.skops")), key_prefix=f"{NAME}/plain")
    builder = ModelBuilder(
        image_uri=image, s3_model_data_url=data, role_arn=ROLE, instance_type="ml.m5.large", sagemaker_session=session
    )
    builder.build(model_name=f"{NAME}-plain")
    endpoint = builder.deploy(endpoint_name=f"{NAME}-plain", initial_instance_count=1)
    expected = model.predict(rows).tolist()
    try:
        csv = "\n".join(",".join(map(str, row)) for row in rows.tolist())
        answer = endpoint.invoke(body=csv, content_type="text/csv", accept="text/csv")
        assert [int(line) for line in answer.body.read().split()] == expected
        answer = endpoint.invoke(body=json.dumps(rows.tolist()), content_type="application/json")
        assert json.loads(answer.body.read()) == expected
        npy = io.BytesIO()
        np.save(npy, rows)
        answer = endpoint.invoke(body=npy.getvalue(), content_type="application/x-npy", accept="application/x-npy")
        assert np.load(io.BytesIO(answer.body.read())).tolist() == expected
    finally:
        remove(endpoint, builder)


def with_code(session: Session, image: str, model: LogisticRegression, rows: np.ndarray, folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "inference.py").write_text(INFERENCE)
    data = session.upload_data(str(archive(folder, model, "weights.skops")), key_prefix=f"{NAME}/code")
    builder = ModelBuilder(
        image_uri=image,
        s3_model_data_url=data,
        source_code=SourceCode(source_dir=str(folder / "code"), entry_script="inference.py"),
        role_arn=ROLE,
        instance_type="ml.m5.large",
        sagemaker_session=session,
    )
    builder.build(model_name=f"{NAME}-code")
    endpoint = builder.deploy(endpoint_name=f"{NAME}-code", initial_instance_count=1)
    try:
        answer = endpoint.invoke(body=json.dumps(rows.tolist()), content_type="application/json")
        assert json.loads(answer.body.read()) == {"species": model.predict(rows).tolist()}
    finally:
        remove(endpoint, builder)


def main() -> None:
    session = Session(default_bucket="hearth-sdk", settings=SessionSettings(encrypt_repacked_artifacts=False))
    image = image_uris.retrieve("sklearn", session.boto_region_name, version="1.4-2", instance_type="ml.m5.large")
    features, species = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(features, species)
    for story in (without_code, with_code):
        with tempfile.TemporaryDirectory() as folder:
            story(session, image, model, features[::15], Path(folder))


if __name__ == "__main__":
    main()
