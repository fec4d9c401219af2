"""The model registry: a group, versions of a model, their approval, a model made from one, and a model card."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from sagemaker.core.helper.iam_role_resolver import IamRoleResolver
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import Model, ModelCard, ModelPackage, ModelPackageGroup
from sagemaker.core.shapes import ContainerDefinition, Tag
from sagemaker.serve import ModelBuilder

NAME = f"registry-{uuid.uuid4().hex[:8]}"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"


def versions(session: Session, role: str) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "model.tar.gz").write_bytes(b"a model")
        data = session.upload_data(f"{folder}/model.tar.gz", key_prefix=NAME)
    group = ModelPackageGroup.create(
        model_package_group_name=NAME, model_package_group_description="flowers", tags=[Tag(key="team", value="a")]
    )
    group.wait_for_status("Completed", poll=1, timeout=30)
    builder = ModelBuilder(
        image_uri=IMAGE, s3_model_data_url=data, role_arn=role, instance_type="ml.m5.large", sagemaker_session=session
    )
    for number in (1, 2):
        arn = builder.register(
            model_package_group_name=NAME, content_types=["text/csv"], response_types=["text/csv"],
            inference_instances=["ml.m5.large"], description=f"number {number}",
            customer_metadata_properties={"trained_on": "iris"},
        )  # fmt: skip
        assert arn.endswith(f"model-package/{NAME}/{number}"), arn

    package = ModelPackage.get(model_package_name=arn)
    assert (package.model_package_version, package.model_approval_status) == (2, "PendingManualApproval")
    package.update(model_approval_status="Approved", approval_description="better than before")
    assert package.refresh().model_approval_status == "Approved"
    approved = ModelPackage.get_all(model_package_group_name=NAME, model_approval_status="Approved")
    assert [each.model_package_version for each in approved] == [2]
    assert len(list(ModelPackage.get_all(model_package_group_name=NAME))) == 2
    assert [each.model_package_group_name for each in ModelPackageGroup.get_all(name_contains=NAME)] == [NAME]

    model = Model.create(
        model_name=NAME, primary_container=ContainerDefinition(model_package_name=arn), execution_role_arn=role
    )
    assert model.primary_container.model_package_name == arn
    model.delete()
    for each in ModelPackage.get_all(model_package_group_name=NAME):
        session.sagemaker_client.delete_model_package(ModelPackageName=each.model_package_arn)
    group.delete()
    group.wait_for_delete(poll=1, timeout=30)


def card() -> None:
    content = {"model_overview": {"model_description": "which flower it is", "model_owner": "a"}}
    made = ModelCard.create(model_card_name=NAME, content=json.dumps(content), model_card_status="Draft")
    content["model_overview"]["model_owner"] = "b"
    made.update(content=json.dumps(content))
    made.update(model_card_status="Approved")
    now = ModelCard.get(model_card_name=NAME)
    assert (now.model_card_version, now.model_card_status) == (2, "Approved")
    assert json.loads(now.content) == content
    assert json.loads(made.content)["model_overview"]["model_owner"] == "a"
    assert [each.model_card_version for each in now.get_all_versions()] == [2]
    assert NAME in [each.model_card_name for each in ModelCard.get_all(model_card_status="Approved")]
    made.delete()


def main() -> None:
    session, roles = Session(default_bucket=NAME), IamRoleResolver()
    role = roles.create_execution_role("serving", role_name=NAME, s3_resource=NAME)
    versions(session, role)
    card()
    bucket = session.boto_session.resource("s3").Bucket(NAME)
    bucket.objects.delete()
    bucket.delete()
    roles.delete_execution_role("serving", role_name=NAME)


if __name__ == "__main__":
    main()
