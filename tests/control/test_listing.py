"""Lists and tags, through boto3: paging that stays put, filters, orders, and tokens that are not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.control import paging
from server.control.kind import Kind
from server.control.listing import lists
from server.control.resources import SAGEMAKER
from server.errors import BadRequest
from server.store.listing import Position
from server.store.store import Store
from tests.control.test_models import make_config, make_model, refused


def names(pages: Any) -> list[str]:
    return [model["ModelName"] for page in pages for model in page["Models"]]


@pytest.fixture
def models(sagemaker: Any) -> Any:
    """A client whose account has the models m-0 to m-11."""
    for number in range(12):
        make_model(sagemaker, f"m-{number}")
    return sagemaker


def test_pages_cover_everything_once_in_order(models: Any) -> None:
    newest_first = [f"m-{number}" for number in reversed(range(12))]
    pages = list(models.get_paginator("list_models").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["Models"]) for page in pages] == [5, 5, 2]
    assert names(pages) == newest_first
    assert len(models.list_models()["Models"]) == 10
    by_name = models.get_paginator("list_models").paginate(SortBy="Name", SortOrder="Ascending")
    assert names(by_name) == sorted(newest_first)


def test_a_page_stays_put_while_others_come_and_go(models: Any) -> None:
    first = models.list_models(MaxResults=4, SortOrder="Ascending")
    models.delete_model(ModelName="m-0")
    models.delete_model(ModelName="m-3")
    make_model(models, "later")
    second = models.list_models(MaxResults=4, SortOrder="Ascending", NextToken=first["NextToken"])
    assert names([first, second]) == [f"m-{number}" for number in range(8)]


def test_filters(models: Any) -> None:
    assert names([models.list_models(NameContains="M-1", SortBy="Name", SortOrder="Ascending")]) == [
        "m-1", "m-10", "m-11",
    ]  # fmt: skip
    moment = models.describe_model(ModelName="m-5")["CreationTime"]
    assert len(models.list_models(CreationTimeAfter=moment + timedelta(seconds=60))["Models"]) == 0
    assert len(models.list_models(CreationTimeAfter=moment - timedelta(seconds=60), MaxResults=50)["Models"]) == 12
    assert len(models.list_models(CreationTimeBefore=datetime(2020, 1, 1, tzinfo=UTC))["Models"]) == 0


def test_a_summary_has_what_the_model_lists(sagemaker: Any) -> None:
    make_model(sagemaker)
    assert set(sagemaker.list_models()["Models"][0]) == {"ModelName", "ModelArn", "CreationTime"}


def test_endpoints_by_status_and_change(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    for name in ("a", "b", "c"):
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")
    store.report(store.get("Endpoint", "b"), "InService")
    found = sagemaker.list_endpoints(StatusEquals="InService")["Endpoints"]
    assert [(e["EndpointName"], e["EndpointStatus"]) for e in found] == [("b", "InService")]
    by_status = sagemaker.get_paginator("list_endpoints").paginate(
        SortBy="Status", SortOrder="Descending", PaginationConfig={"PageSize": 1}
    )
    assert [e["EndpointName"] for page in by_status for e in page["Endpoints"]] == ["b", "c", "a"]
    late = datetime.now(UTC) + timedelta(seconds=60)
    assert sagemaker.list_endpoints(LastModifiedTimeAfter=late)["Endpoints"] == []


@pytest.mark.parametrize("token", ["", "AAAA", "not base64!", "é"])
def test_a_token_that_is_not_ours_is_refused(sagemaker: Any, token: str) -> None:
    code, message = refused(sagemaker.list_models, NextToken=token)
    assert code == "ValidationException"
    assert "NextToken" in message


def test_a_token_belongs_to_its_request(models: Any) -> None:
    token = models.list_models(MaxResults=2)["NextToken"]
    assert "NextToken" in refused(models.list_models, NextToken=token, SortBy="Name")[1]
    assert "NextToken" in refused(models.list_endpoint_configs, NextToken=token)[1]
    assert models.list_models(MaxResults=7, NextToken=token)["Models"], "another page size is fine"


POSITIONS = st.builds(
    Position,
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 2**53),
)


@settings(deadline=None)
@given(POSITIONS, st.text(), st.integers(0, 200))
def test_tokens_read_back_and_damage_is_noticed(position: Position, purpose: str, where: int) -> None:
    token = paging.encode(position, purpose)
    assert paging.decode(token, purpose) == position
    damaged = token[:where] + ("A" if token[where : where + 1] != "A" else "B") + token[where + 1 :]
    for wrong in (damaged, token[:-4]):
        with pytest.raises(BadRequest):
            paging.decode(wrong, purpose)
    with pytest.raises(BadRequest):
        paging.decode(token, purpose + "x")


def test_tags(sagemaker: Any) -> None:
    arn = make_model(sagemaker)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "1"}, {"Key": "a", "Value": ""}])
    answered = sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])["Tags"]
    assert answered == [{"Key": "a", "Value": ""}, {"Key": "b", "Value": "2"}]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "none"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_tags_go_with_their_resource(sagemaker: Any) -> None:
    arn = make_model(sagemaker)
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}])
    sagemaker.delete_model(ModelName="m")
    code, message = refused(sagemaker.list_tags, ResourceArn=arn)
    assert code == "ValidationException"
    assert arn in message
    make_model(sagemaker)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


def test_fifty_tags_are_enough(sagemaker: Any) -> None:
    arn = make_model(sagemaker)
    fifty = [{"Key": f"k{number:02}", "Value": "v"} for number in range(50)]
    sagemaker.add_tags(ResourceArn=arn, Tags=fifty)
    code, message = refused(sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "one-more", "Value": ""}])
    assert (code, "51 tags" in message) == ("ValidationException", True)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == fifty


def test_a_filter_that_nothing_serves_fails_at_import() -> None:
    with pytest.raises(LookupError, match="ModelPackageType"):
        lists(Kind(name="ModelPackage", title="model package"))


def test_a_name_that_is_no_operation_fails_at_import() -> None:
    with pytest.raises(LookupError, match="no operation CreateNothing"):
        SAGEMAKER.register("CreateNothing", lambda _context, _request: {})
    with pytest.raises(LookupError, match="twice"):
        SAGEMAKER.register("CreateModel", lambda _context, _request: {})
