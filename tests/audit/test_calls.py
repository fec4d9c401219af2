"""boto3's calls go in, CloudTrail's events come out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from server.audit.lookup import Wanted, newest
from server.audit.verify import verify
from tests.audit.conftest import ACCOUNT, REGION, Audited

ROLE = f"arn:aws:iam::{ACCOUNT}:role/hearth"


def events(audited: Audited, **asked: Any) -> list[dict[str, Any]]:
    audited.settle()
    found = audited.client("cloudtrail").get_paginator("lookup_events").paginate(**asked)
    return [event for page in found for event in page["Events"]]


def only(audited: Audited, key: str, value: str) -> dict[str, Any]:
    (event,) = events(audited, LookupAttributes=[{"AttributeKey": key, "AttributeValue": value}])
    return event


def test_every_field_of_a_change(audited: Audited) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    reply = audited.client("sagemaker").create_model_package_group(ModelPackageGroupName="shapes")
    event = only(audited, "EventName", "CreateModelPackageGroup")
    arn = reply["ModelPackageGroupArn"]
    assert event["Username"] == "root"
    assert event["ReadOnly"] == "false"
    assert event["EventSource"] == "sagemaker.amazonaws.com"
    assert event["AccessKeyId"] == "AKIDEXAMPLE"
    assert event["Resources"] == [{"ResourceType": "AWS::SageMaker::ModelPackageGroup", "ResourceName": "shapes"}]
    assert before <= event["EventTime"] <= datetime.now(UTC)
    record = json.loads(event["CloudTrailEvent"])
    assert record.pop("userAgent").startswith("Boto3/")
    assert record.pop("eventTime") == event["EventTime"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert record == {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "Root", "principalId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT,
            "accessKeyId": "AKIDEXAMPLE",
        },
        "eventSource": "sagemaker.amazonaws.com",
        "eventName": "CreateModelPackageGroup",
        "awsRegion": REGION,
        "sourceIPAddress": "hearth.internal",
        "requestParameters": {"modelPackageGroupName": "shapes"},
        "responseElements": {"modelPackageGroupArn": arn},
        "requestID": reply["ResponseMetadata"]["RequestId"],
        "eventID": event["EventId"],
        "readOnly": False,
        "resources": [{"accountId": ACCOUNT, "type": "AWS::SageMaker::ModelPackageGroup", "ARN": arn}],
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    }  # fmt: skip


def test_a_failure_says_why_and_a_read_gives_no_answer(audited: Audited) -> None:
    sagemaker = audited.client("sagemaker")
    with pytest.raises(ClientError) as refused:
        sagemaker.describe_model(ModelName="absent")
    sagemaker.list_models()
    failed = json.loads(only(audited, "EventName", "DescribeModel")["CloudTrailEvent"])
    assert failed["errorCode"] == refused.value.response["Error"]["Code"]
    assert failed["errorMessage"] == refused.value.response["Error"]["Message"]
    assert failed["readOnly"] is True
    listed = json.loads(only(audited, "EventName", "ListModels")["CloudTrailEvent"])
    assert listed["responseElements"] is None
    assert "errorCode" not in listed


def test_lookups_by_every_attribute(audited: Audited) -> None:
    sagemaker, other = audited.client("sagemaker"), audited.client("sagemaker", aws_access_key_id="AKIDOTHER")
    arns = [sagemaker.create_model_package_group(ModelPackageGroupName=f"g{n}")["ModelPackageGroupArn"] for n in (1, 2)]
    other.describe_model_package_group(ModelPackageGroupName="g1")
    audited.client("sts").get_caller_identity()
    first = only(audited, "ResourceName", "g2")
    for key, value, names in (
        ("EventId", first["EventId"], ["CreateModelPackageGroup"]),
        ("EventName", "DescribeModelPackageGroup", ["DescribeModelPackageGroup"]),
        ("ReadOnly", "false", ["CreateModelPackageGroup"] * 2),
        ("Username", "nobody", []),
        ("ResourceType", "AWS::SageMaker::ModelPackageGroup", ["DescribeModelPackageGroup",
                                                               *["CreateModelPackageGroup"] * 2]),
        ("ResourceName", arns[0], ["DescribeModelPackageGroup", "CreateModelPackageGroup"]),
        ("EventSource", "sts.amazonaws.com", ["GetCallerIdentity"]),
        ("AccessKeyId", "AKIDOTHER", ["DescribeModelPackageGroup"]),
    ):  # fmt: skip
        found = events(audited, LookupAttributes=[{"AttributeKey": key, "AttributeValue": value}])
        assert [event["EventName"] for event in found] == names, key
    found = events(audited, LookupAttributes=[{"AttributeKey": "Username", "AttributeValue": "root"}])
    assert len(found) >= 4


def test_pages_and_times(audited: Audited) -> None:
    sagemaker, trail = audited.client("sagemaker"), audited.client("cloudtrail")
    for number in range(7):
        sagemaker.create_model_package_group(ModelPackageGroupName=f"g{number}")
    asked: dict[str, Any] = {
        "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "CreateModelPackageGroup"}]
    }
    seen: list[str] = []
    page = trail.lookup_events(**asked, MaxResults=3)
    while True:
        assert len(page["Events"]) <= 3
        seen += [event["Resources"][0]["ResourceName"] for event in page["Events"]]
        if "NextToken" not in page:
            break
        sagemaker.create_model_package_group(ModelPackageGroupName=f"later{len(seen)}")
        page = trail.lookup_events(**asked, MaxResults=3, NextToken=page["NextToken"])
    assert seen == [f"g{number}" for number in reversed(range(7))]
    now = datetime.now(UTC)
    assert events(audited, **asked, StartTime=now + timedelta(minutes=1)) == []
    assert events(audited, **asked, EndTime=now - timedelta(minutes=1)) == []
    assert len(events(audited, **asked, StartTime=now - timedelta(minutes=5), EndTime=now)) >= 7


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"NextToken": "made-up"}, "InvalidNextTokenException"),
        ({"StartTime": datetime(2026, 2, 2, tzinfo=UTC), "EndTime": datetime(2026, 2, 1, tzinfo=UTC)},
         "InvalidTimeRangeException"),
        ({"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "a"},
                               {"AttributeKey": "EventId", "AttributeValue": "b"}]},
         "InvalidLookupAttributesException"),
        ({"LookupAttributes": [{"AttributeKey": "ReadOnly", "AttributeValue": "maybe"}]},
         "InvalidLookupAttributesException"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_up(audited: Audited, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        audited.client("cloudtrail").lookup_events(**asked)
    assert refused.value.response["Error"]["Code"] == code


def test_a_list_is_of_one_account_and_region(audited: Audited) -> None:
    audited.client("sagemaker", region_name="eu-west-1").create_model_package_group(ModelPackageGroupName="far")
    audited.client("sagemaker").create_model_package_group(ModelPackageGroupName="near")
    named = [{"AttributeKey": "EventName", "AttributeValue": "CreateModelPackageGroup"}]
    (event,) = events(audited, LookupAttributes=named)
    assert event["Resources"][0]["ResourceName"] == "near"
    assert all(each["EventName"] != "Settle" for each in events(audited))


def test_buckets_are_control_calls_and_objects_are_data(audited: Audited) -> None:
    s3 = audited.client("s3")
    s3.create_bucket(Bucket="things")
    s3.put_object(Bucket="things", Key="a/b.txt", Body=b"hello")
    with pytest.raises(ClientError):
        s3.get_object(Bucket="things", Key="absent")
    record = json.loads(only(audited, "EventName", "CreateBucket")["CloudTrailEvent"])
    assert record["eventSource"] == "s3.amazonaws.com"
    assert record["requestParameters"]["bucketName"] == "things"
    assert record["resources"] == [{"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::things"}]
    assert events(audited, LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "PutObject"}]) == []
    data, _ = newest(audited.engine, Wanted(account=ACCOUNT, management=False), 10)
    assert [(each.event["eventName"], each.event.get("errorCode")) for each in data] == [
        ("GetObject", "NoSuchKey"), ("PutObject", None),
    ]  # fmt: skip
    assert data[1].event["resources"][0]["ARN"] == "arn:aws:s3:::things"
    assert data[1].event["resources"][1]["type"] == "AWS::S3::Object"


def test_hearths_own_routes(audited: Audited) -> None:
    body = {"model": "tiny", "env": {"API_KEY": "swordfish-and-more"}}
    assert httpx.put(f"{audited.url}/hearth/endpoints/mine", json=body, trust_env=False).status_code == 202
    assert httpx.delete(f"{audited.url}/hearth/endpoints/mine", trust_env=False).status_code == 202
    record = json.loads(only(audited, "EventName", "DeployEndpoint")["CloudTrailEvent"])
    assert record["requestParameters"]["env"] == {"API_KEY": "HIDDEN_DUE_TO_SECURITY_REASONS"}
    found = events(audited, LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": "mine"}])
    assert [event["EventName"] for event in found] == ["DeleteEndpoint", "DeployEndpoint"]


def test_a_change_whose_event_cannot_be_kept_is_not_acknowledged(audited: Audited) -> None:
    audited.client("sagemaker").create_model_package_group(ModelPackageGroupName="before")
    audited.keeper.key_file.rename(audited.folder / "away")
    sagemaker = audited.client("sagemaker")
    with pytest.raises(ClientError) as refused:
        sagemaker.create_model_package_group(ModelPackageGroupName="while")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    sagemaker.list_model_package_groups()
    (audited.folder / "away").rename(audited.keeper.key_file)
    sagemaker.create_model_package_group(ModelPackageGroupName="after")  # waits until the log has tried again
    audited.settle()
    assert verify(audited.engine, audited.keeper).problem is None
    named = [{"AttributeKey": "EventName", "AttributeValue": "CreateModelPackageGroup"}]
    found = [event["Resources"][0]["ResourceName"] for event in events(audited, LookupAttributes=named)]
    assert found == ["after", "while", "before"]
