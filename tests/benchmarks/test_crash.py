"""The crash harness can tell what is possible after lost answers from what is not."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from benchmarks.crash import checks, sequence
from benchmarks.crash.legal import Call, Legal, Reply, Violation
from benchmarks.crash.rules import IMAGE, NO_IMAGE, RULES

OK, REFUSED = Reply({}), Reply({}, "ValidationException: no")


def model(name: str = "m", answer: str = "a", image: str = IMAGE) -> Call:
    container = {"Image": image, "Environment": {"ANSWER": answer}}
    return Call("create_model", {"ModelName": name, "PrimaryContainer": container})


def call(operation: str, **request: Any) -> Call:
    return Call(operation, request)


def config(name: str = "c", *models: str) -> Call:
    variants = [
        {"VariantName": f"v{number}", "ModelName": each, "InitialVariantWeight": 1.0, "InitialInstanceCount": 1}
        for number, each in enumerate(models or ("m",))
    ]
    return Call("create_endpoint_config", {"EndpointConfigName": name, "ProductionVariants": variants})


def endpoint(operation: str = "create_endpoint", name: str = "c") -> Call:
    return Call(operation, {"EndpointName": "e", "EndpointConfigName": name})


DESCRIBE_MODEL = call("describe_model", ModelName="m")
DESCRIBE = call("describe_endpoint", EndpointName="e")
DELETE = call("delete_endpoint", EndpointName="e")


def status(word: str) -> Reply:
    variants = [{"VariantName": "v0", "DesiredWeight": 1.0, "DesiredInstanceCount": 1}]
    return Reply({"EndpointStatus": word, "EndpointConfigName": "c", "ProductionVariants": variants})


@pytest.fixture
def legal() -> Legal:
    return Legal()


@pytest.fixture
def creating(legal: Legal) -> Legal:
    for each in (model(), config(), endpoint()):
        legal.answered(each, OK)
    return legal


def test_what_was_acknowledged_must_be_there(legal: Legal) -> None:
    legal.answered(model(), OK)
    with pytest.raises(Violation, match="describe_model"):
        legal.answered(DESCRIBE_MODEL, REFUSED)


def test_what_was_acknowledged_must_be_as_asked(legal: Legal) -> None:
    legal.answered(model(answer="a"), OK)
    with pytest.raises(Violation, match="'ANSWER': 'a'"):
        legal.answered(DESCRIBE_MODEL, Reply({"ModelName": "m", "PrimaryContainer": {"Environment": {"ANSWER": "b"}}}))


def test_a_refusal_without_a_reason_is_a_violation(legal: Legal) -> None:
    """As when somebody between client and door sends a create again."""
    with pytest.raises(Violation):
        legal.answered(model(), REFUSED)


@pytest.mark.parametrize("there", [True, False])
def test_a_lost_create_is_there_or_not_and_then_stays_so(legal: Legal, there: bool) -> None:
    legal.unanswered(model(), lost=1)
    answer = Reply({"ModelName": "m", "PrimaryContainer": {"Environment": {"ANSWER": "a"}}})
    legal.nothing_is_under_way()
    legal.answered(DESCRIBE_MODEL, answer if there else REFUSED)
    with pytest.raises(Violation):
        legal.answered(DESCRIBE_MODEL, REFUSED if there else answer)


def test_a_lost_create_may_still_come_until_nothing_is_under_way(legal: Legal) -> None:
    legal.unanswered(model(), lost=1)
    legal.answered(DESCRIBE_MODEL, REFUSED)
    legal.answered(DESCRIBE_MODEL, Reply({"ModelName": "m", "PrimaryContainer": {"Environment": {"ANSWER": "a"}}}))


def test_a_retried_create_may_be_refused_and_is_then_there(legal: Legal) -> None:
    legal.answered(model(), REFUSED, lost=1)
    with pytest.raises(Violation):
        legal.answered(DESCRIBE_MODEL, REFUSED)


def test_a_call_that_met_no_listener_did_nothing(legal: Legal) -> None:
    legal.unanswered(model(), lost=0)
    assert {each.world for each in legal.possible} == {frozenset()}


def test_a_later_answer_tells_what_became_of_a_lost_call(legal: Legal) -> None:
    legal.unanswered(model(), lost=1)
    legal.nothing_is_under_way()
    assert len(legal.possible) == 2
    legal.answered(config(), OK)  # it needs the model
    assert len(legal.possible) == 1


def test_an_endpoint_comes_into_service_and_never_goes_back(creating: Legal) -> None:
    creating.answered(DESCRIBE, status("Creating"))
    creating.answered(DESCRIBE, status("InService"))
    with pytest.raises(Violation, match="Creating"):
        creating.answered(DESCRIBE, status("Creating"))


def test_a_runnable_endpoint_must_not_fail(creating: Legal) -> None:
    with pytest.raises(Violation, match="Failed"):
        creating.answered(DESCRIBE, status("Failed"))


def test_an_endpoint_that_cannot_be_run_must_not_serve(legal: Legal) -> None:
    for each in (model(image=NO_IMAGE), config(), endpoint()):
        legal.answered(each, OK)
    with pytest.raises(Violation):
        legal.answered(DESCRIBE, status("InService"))


def test_a_deleted_endpoint_goes_and_never_comes_back(creating: Legal) -> None:
    creating.answered(DELETE, OK)
    creating.answered(DESCRIBE, status("Deleting"))
    creating.answered(DESCRIBE, REFUSED)
    with pytest.raises(Violation):
        creating.answered(DESCRIBE, status("InService"))


def test_an_update_waits_for_the_one_before(creating: Legal) -> None:
    creating.answered(endpoint("update_endpoint"), REFUSED)
    creating.answered(DESCRIBE, status("InService"))
    creating.answered(endpoint("update_endpoint"), OK)
    creating.answered(DESCRIBE, status("Updating"))


def test_the_old_configuration_is_shown_until_the_new_one_is_through(legal: Legal) -> None:
    for each in (model("m", "a"), model("n", "b"), config("c", "m"), config("d", "n"), endpoint()):
        legal.answered(each, OK)
    legal.answered(DESCRIBE, status("InService"))
    legal.answered(endpoint("update_endpoint", "d"), OK)
    during = status("Updating").body
    legal.answered(DESCRIBE, Reply({**during, "PendingDeploymentSummary": {"EndpointConfigName": "d"}}))
    legal.answered(call("delete_endpoint_config", EndpointConfigName="d"), REFUSED)
    with pytest.raises(Violation):  # as after a rollback
        legal.answered(DESCRIBE, status("InService"))
    legal.answered(DESCRIBE, Reply({**status("InService").body, "EndpointConfigName": "d"}))


def test_one_token_is_one_package(legal: Legal) -> None:
    legal.answered(call("create_model_package_group", ModelPackageGroupName="g"), OK)
    request = {"ModelPackageGroupName": "g", "ClientToken": "t", "ModelApprovalStatus": "Approved"}
    made, prefix = Call("create_model_package", request), "arn:aws:sagemaker:us-east-1:1:model-package/g"
    legal.answered(made, Reply({"ModelPackageArn": f"{prefix}/1"}), lost=2)
    legal.answered(made, Reply({"ModelPackageArn": f"{prefix}/1"}))
    with pytest.raises(Violation):
        legal.answered(made, Reply({"ModelPackageArn": f"{prefix}/2"}))


def test_lists_are_neither_short_nor_long(legal: Legal) -> None:
    listed = call("list_models", NameContains="m")
    legal.answered(model("m1"), OK)
    legal.answered(listed, Reply({"Models": [{"ModelName": "m1"}]}))
    for wrong in ([], [{"ModelName": "m1"}, {"ModelName": "m2"}]):
        with pytest.raises(Violation):
            legal.answered(listed, Reply({"Models": wrong}))


def test_tags_are_added_and_removed(legal: Legal) -> None:
    legal.answered(model("m1"), OK)
    arn = "arn:aws:sagemaker:us-east-1:1:model/m1"
    legal.answered(call("add_tags", ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}]), OK)
    legal.unanswered(call("delete_tags", ResourceArn=arn, TagKeys=["a"]), lost=1)
    legal.answered(call("list_tags", ResourceArn=arn), Reply({"Tags": []}))
    with pytest.raises(Violation):
        legal.answered(call("list_tags", ResourceArn=arn), Reply({"Tags": [{"Key": "a", "Value": "1"}]}))


def test_every_call_of_the_sequences_has_a_rule() -> None:
    called = set(re.findall(r'call\(\s*"(\w+)"', inspect.getsource(sequence) + inspect.getsource(checks)))
    assert called | set(sequence.LISTS) == set(RULES)
