"""Quotas of accounts, through Service Quotas, `hearth quotas` and the calls that they bind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner, Result

from server.cli.main import app, console
from server.control import endpoints
from server.control.instances import Machine
from server.control.operations import Context
from server.control.quotas import instances
from server.control.services import SERVICES
from server.errors import LimitExceeded, Refusal
from server.identity.principal import Principal, root
from server.settings import Settings
from server.spec import EndpointSpec, Rollout, Scaling, Strategy, VariantSpec
from server.store import quotas
from server.store.quotas import ENDPOINTS, INSTANCES, QUOTAS, UNLIMITED, Defaults
from server.store.store import Store
from tests.control.conftest import ACCOUNT, REGION, client

OTHER = "210987654321"
IMAGE = "hearth/hearth-python-lm"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/hearth"


@pytest.fixture
def limits(address: str) -> Iterator[Any]:
    made = client(address, "service-quotas")
    yield made
    made.close()


def prepared(sagemaker: Any, name: str, count: int) -> None:
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": count}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def test_the_service_lists_what_there_is(limits: Any) -> None:
    services = {each["ServiceCode"] for each in limits.list_services()["Services"]}
    assert services == {quota.service for quota in QUOTAS.values()}
    found = limits.list_service_quotas(ServiceCode="sagemaker")["Quotas"]
    assert [each["QuotaCode"] for each in found] == ["H-ENDPOINTS", "H-INSTANCES", "H-REQUESTS", "H-TOKENS"]
    assert {each["Value"] for each in found} == {UNLIMITED}
    assert found[2]["Period"] == {"PeriodValue": 1, "PeriodUnit": "SECOND"}
    assert found[0]["QuotaArn"] == f"arn:aws:servicequotas:{REGION}:{ACCOUNT}:sagemaker/H-ENDPOINTS"
    storage = limits.get_service_quota(ServiceCode="s3", QuotaCode="H-STORAGE")["Quota"]
    assert (storage["Unit"], storage["Adjustable"]) == ("Megabytes", True)
    default = limits.get_aws_default_service_quota(ServiceCode="s3", QuotaCode="H-STORAGE")["Quota"]
    assert default["QuotaArn"] == f"arn:aws:servicequotas:{REGION}::s3/H-STORAGE"
    pages = limits.get_paginator("list_aws_default_service_quotas").paginate(ServiceCode="sagemaker", MaxResults=1)
    assert [page["Quotas"][0]["QuotaCode"] for page in pages] == [each["QuotaCode"] for each in found]
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: limits.list_service_quotas(ServiceCode="ec2"), "NoSuchResourceException"),
        (lambda: limits.get_service_quota(ServiceCode="s3", QuotaCode="H-ENDPOINTS"), "NoSuchResourceException"),
        (lambda: limits.list_services(NextToken="abc"), "InvalidPaginationTokenException"),
        (lambda: limits.get_requested_service_quota_change(RequestId="no1"), "NoSuchResourceException"),
    ]
    for call, code in calls:
        with pytest.raises(ClientError) as refused:
            call()
        assert refused.value.response["Error"]["Code"] == code


def test_endpoints_and_instances_are_bounded_in_sagemakers_words(sagemaker: Any, store: Store) -> None:
    quotas.put(store, ACCOUNT, ENDPOINTS, 2)
    quotas.put(store, ACCOUNT, INSTANCES, 4)
    prepared(sagemaker, "two", 2)
    prepared(sagemaker, "three", 3)
    sagemaker.create_endpoint(EndpointName="a", EndpointConfigName="two")
    with pytest.raises(ClientError) as refused:
        sagemaker.create_endpoint(EndpointName="b", EndpointConfigName="three")
    error = refused.value.response["Error"]
    assert error["Code"] == "ResourceLimitExceeded"
    assert error["Message"].startswith(
        f"The account-level service limit '{INSTANCES.name}' is 4 Instances, with current utilization of 2 Instances "
        "and a request delta of 3 Instances. Please use AWS Service Quotas to request an increase for this quota."
    )
    assert [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]] == ["a"]
    sagemaker.create_endpoint(EndpointName="b", EndpointConfigName="two")
    with pytest.raises(ClientError) as refused:
        sagemaker.create_endpoint(EndpointName="c", EndpointConfigName="two")
    assert "2 Endpoints, with current utilization of 2 Endpoints and a request delta of 1 Endpoints" in str(
        refused.value
    )
    settle(store)
    with pytest.raises(ClientError) as refused:
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="a", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredInstanceCount": 3}]
        )
    assert refused.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    described = sagemaker.describe_endpoint(EndpointName="a")
    assert described["EndpointStatus"] == "InService"
    assert described["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    with pytest.raises(ClientError) as refused:
        sagemaker.update_endpoint(EndpointName="a", EndpointConfigName="three")
    assert refused.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    quotas.put(store, ACCOUNT, INSTANCES, 1)  # fewer than there are: less may be asked for, more may not
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="a", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredInstanceCount": 1}]
    )


def settle(store: Store) -> None:
    for each in store.find("Endpoint"):
        store.report(each, "InService")


def test_a_target_that_could_never_be_reached(sagemaker: Any, address: str, store: Store) -> None:
    quotas.put(store, ACCOUNT, INSTANCES, 5)
    prepared(sagemaker, "two", 2)
    sagemaker.create_endpoint(EndpointName="a", EndpointConfigName="two")
    sagemaker.create_endpoint(EndpointName="b", EndpointConfigName="two")
    scaling = client(address, "application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/a/variant/v", "MinCapacity": 1,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }  # fmt: skip
    with pytest.raises(ClientError) as refused:
        scaling.register_scalable_target(**target, MaxCapacity=4)
    assert refused.value.response["Error"]["Code"] == "LimitExceededException"
    assert "request delta of 2 Instances" in str(refused.value)
    scaling.register_scalable_target(**target, MaxCapacity=3)
    scaling.close()


def test_concurrent_calls_do_not_get_past_it(store: Store) -> None:
    quotas.put(store, ACCOUNT, ENDPOINTS, 3)
    outcomes: list[str] = []

    def ask(number: int) -> None:
        try:
            endpoints.deploy(store, EndpointSpec(name=f"e{number}", variants=(VariantSpec(model="m"),)), Defaults())
            outcomes.append("made")
        except LimitExceeded:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("made") == 3 == len(store.find("Endpoint"))
    assert outcomes.count("refused") == 7


def test_what_is_rolled_out_counts_beside_what_serves() -> None:
    def spec(count: int, pending: Rollout | None = None, model: str = "m") -> EndpointSpec:
        scaling = Scaling(min_replicas=count, max_replicas=count)
        return EndpointSpec(name="e", variants=(VariantSpec(model=model, scaling=scaling),), pending=pending)

    assert instances(spec(4)) == 4
    assert instances(spec(4, Rollout(spec=spec(6, model="n"), asked_at=0.0))) == 10
    assert instances(spec(4, Rollout(spec=spec(6), asked_at=0.0))) == 6  # the same replicas
    rolling = Strategy(rolling=True, shares=(0.25, 0.5, 0.75, 1.0))
    assert instances(spec(4, Rollout(spec=spec(6), strategy=rolling, asked_at=0.0))) == 6 + 2
    assert instances(spec(4).model_copy(update={"problem": "no"})) == 0
    shadow = VariantSpec(name="shadow", model="m", scaling=Scaling(min_replicas=3, max_replicas=3))
    assert instances(spec(4).model_copy(update={"shadows": (shadow,)})) == 7


def asking(store: Store, principal: Principal) -> Any:
    context = Context(replace_account(store, principal.account), Machine(), caller=principal)
    return lambda name, **request: SERVICES["servicequotas"].built[name](context, request)


def replace_account(store: Store, account: str) -> Store:
    return Store(store.engine, account, REGION).within(REGION)


OF_ENDPOINTS = {"ServiceCode": "sagemaker", "QuotaCode": "H-ENDPOINTS"}


def test_the_operators_root_has_it_at_once(limits: Any, store: Store) -> None:
    quotas.put(store, ACCOUNT, ENDPOINTS, 2)
    with pytest.raises(ClientError) as refused:
        limits.request_service_quota_increase(**OF_ENDPOINTS, DesiredValue=2.0)
    assert refused.value.response["Error"]["Code"] == "IllegalArgumentException"
    made = limits.request_service_quota_increase(**OF_ENDPOINTS, DesiredValue=5.0)["RequestedQuota"]
    assert (made["Status"], made["DesiredValue"]) == ("APPROVED", 5.0)
    assert limits.get_service_quota(**OF_ENDPOINTS)["Quota"]["Value"] == 5.0
    again = limits.get_requested_service_quota_change(RequestId=made["Id"])["RequestedQuota"]
    assert again == made
    assert limits.list_requested_service_quota_change_history()["RequestedQuotas"] == [made]


@pytest.mark.parametrize(
    "principal",
    [Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ana", "AIDAANA"), root(OTHER)],
    ids=["a user", "another account's root"],
)
def test_others_wait_for_the_operator(store: Store, tmp_path: Path, principal: Principal) -> None:
    quotas.put(store, principal.account, ENDPOINTS, 2)
    call = asking(store, principal)
    made = call("RequestServiceQuotaIncrease", **OF_ENDPOINTS, DesiredValue=7.0)["RequestedQuota"]
    assert (made["Status"], made["Requester"]) == ("PENDING", principal.arn)
    with pytest.raises(Refusal) as refused:
        call("RequestServiceQuotaIncrease", **OF_ENDPOINTS, DesiredValue=8.0)
    assert refused.value.code == "ResourceAlreadyExistsException"
    assert call("GetServiceQuota", **OF_ENDPOINTS)["Quota"]["Value"] == 2
    assert made["Id"] in hearth(tmp_path, "requests").output
    done = hearth(tmp_path, "approve", made["Id"])
    assert done.exit_code == 0, done.output
    assert call("GetServiceQuota", **OF_ENDPOINTS)["Quota"]["Value"] == 7
    history = call("ListRequestedServiceQuotaChangeHistoryByQuota", **OF_ENDPOINTS)["RequestedQuotas"]
    assert [each["Status"] for each in history] == ["APPROVED"]
    assert hearth(tmp_path, "deny", made["Id"]).exit_code == 1
    second = call("RequestServiceQuotaIncrease", **OF_ENDPOINTS, DesiredValue=9.0)["RequestedQuota"]
    assert hearth(tmp_path, "deny", second["Id"]).exit_code == 0
    assert call("GetServiceQuota", **OF_ENDPOINTS)["Quota"]["Value"] == 7
    elsewhere = asking(store, root("111111111111"))
    assert elsewhere("ListRequestedServiceQuotaChangeHistory")["RequestedQuotas"] == []


def hearth(state: Path, *arguments: str) -> Result:
    console.width = 250  # what it was when somebody first imported it
    return CliRunner().invoke(app, ["quotas", *arguments, "--state", str(state)])


def test_the_command(tmp_path: Path) -> None:
    assert "unlimited" in hearth(tmp_path, "list").output
    assert hearth(tmp_path, "set", "h-instances", "4").output == f"H-INSTANCES of {ACCOUNT}: 4\n"
    assert hearth(tmp_path, "set", "H-INSTANCES", "unlimited", "--account", OTHER).exit_code == 0
    listed = hearth(tmp_path, "list").output
    assert any(OTHER in line and "own" in line for line in listed.splitlines())
    assert hearth(tmp_path, "set", "H-INSTANCES", "default").output == f"H-INSTANCES of {ACCOUNT}: unlimited\n"
    for wrong in (("H-NONE", "1"), ("H-INSTANCES", "-1"), ("H-INSTANCES", "nan"), ("H-INSTANCES", "many"),
                  ("H-INSTANCES", "1", "--account", "12")):  # fmt: skip
        assert hearth(tmp_path, "set", *wrong).exit_code != 0


def test_defaults_come_from_the_settings(store: Store) -> None:
    defaults = Defaults.of(Settings(quota_endpoints=0, quota_storage_mb=1.5))
    assert quotas.limit(store, defaults, ENDPOINTS) == 0
    assert quotas.limit(store, defaults, INSTANCES) is None
    quotas.put(store, ACCOUNT, ENDPOINTS, UNLIMITED)
    assert quotas.limit(store, defaults, ENDPOINTS) is None
    assert quotas.limit(replace_account(store, OTHER), defaults, ENDPOINTS) == 0
    assert replace(defaults, operator=OTHER).value(INSTANCES) == UNLIMITED
