"""Every operation of SageMaker's: a valid request passes, and each constraint that is broken is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.control import patterns, shapes
from server.control.resources import SAGEMAKER
from server.errors import BadRequest, Unreadable

NAMES = sorted(SAGEMAKER.operations)

ARN = "arn:aws:sagemaker:us-east-1:123456789012:"
UUID = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
SAMPLES = (
    *"a 1 a1 ab-c /a s3://bucket/key https://a.example.com/key key=value 1.0 1.0.0 12K us-east-1 UserName".split(),
    *"sg-0 subnet-0 vpc-0 p1 a@b.c ml.m5.large US d-1 10.0.0.0/24 a/b a1b2c3d4e5f6 i-0a1b2c3d vol-0a1b2c3d".split(),
    *(ARN + part for part in "model/m endpoint/e artifact/a workteam/w model-package/m pipeline/p".split()),
    *(ARN + part for part in "cluster/a1b2c3d4e5f6 mlflow-app/m partner-app/app-ABCDEF012345".split()),
    *(ARN + part for part in "extension/eks-a/b/c1 reserved-capacity/r training-plan/t pipeline/p/execution/e".split()),
    *("arn:aws:iam::123456789012:role/r", "eni-0a1b2c3d", UUID, ARN + "model-card/c/export-job/e"),
    "arn:aws:sagemaker:us-east-1:aws:hub-content/hub/Model/m",
)
"""Values that many patterns take, tried before one is made."""


def value(shape: Any, depth: int = 0) -> Any:
    """The smallest value that `shape` takes."""
    if shape.type_name == "structure":
        return structure(shape, depth)
    if shape.type_name == "list":
        return [value(shape.member, depth + 1)] * max(shape.metadata.get("min", 0), 1)
    if shape.type_name == "map":
        return {value(shape.key): value(shape.value, depth + 1)} if shape.metadata.get("min", 0) else {}
    if shape.type_name == "string":
        return text(shape)
    if shape.type_name == "boolean":
        return True
    return max(shape.metadata.get("min", 1), 1) if shape.metadata.get("max", 1) >= 1 else shape.metadata["max"]


def structure(shape: Any, depth: int = 0) -> dict[str, Any]:
    wanted = list(shape.required_members)
    if shape.is_tagged_union and not wanted:
        wanted = [next(iter(shape.members))]
    return {name: value(shape.members[name], depth + 1) for name in wanted}


def text(shape: Any) -> str:
    if shape.enum:
        return str(shape.enum[0])
    low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 10**9)
    pattern = shape.metadata.get("pattern")
    for sample in SAMPLES:
        stretched = sample + sample[-1] * (low - len(sample))
        for candidate in (sample, stretched):
            if low <= len(candidate) <= high and (pattern is None or patterns.Patience().matches(pattern, candidate)):
                return candidate
    raise AssertionError(f"no value found for {shape.name}: {pattern} {low}..{high}")


def broken(shape: Any, good: Any) -> Iterator[tuple[Any, str]]:
    """Values that break one constraint of `shape` each, and AWS's words for it."""
    facts = shape.metadata
    if shape.type_name == "string":
        if shape.enum:
            yield "no such value!", "enum value set"
        elif "pattern" in facts and (bad := next(unmatched(facts["pattern"]), None)) is not None:
            yield bad, "regular expression pattern"
        if "max" in facts and facts["max"] < 10**6:
            yield "a" * (facts["max"] + 1), f"length less than or equal to {facts['max']}"
        if facts.get("min", 0) > 0:
            yield "", f"length greater than or equal to {facts['min']}"
    elif shape.type_name in ("integer", "long", "float", "double"):
        if "max" in facts:
            yield facts["max"] + 1, f"value less than or equal to {facts['max']}"
        if "min" in facts:
            yield facts["min"] - 1, f"value greater than or equal to {facts['min']}"
    elif shape.type_name == "list":
        if "max" in facts and good:
            yield good * (facts["max"] + 1), f"length less than or equal to {facts['max']}"
        if facts.get("min", 0) > 0:
            yield [], f"length greater than or equal to {facts['min']}"


def unmatched(pattern: str) -> Iterator[str]:
    for candidate in ("", "\x00", "\n", " ", "~^ \n", "<>", "-"):
        if not patterns.Patience().matches(pattern, candidate):
            yield candidate


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_request_passes_and_each_broken_constraint_is_named(name: str) -> None:
    shape = SAGEMAKER.input(name)
    if shape is None or not shape.members:
        assert shapes.read(shape, {}) == {}
        return
    valid = structure(shape)
    assert shapes.read(shape, valid) == valid
    for member in shape.required_members:
        with pytest.raises(BadRequest, match="Member must not be null"):
            shapes.read(shape, {key: inner for key, inner in valid.items() if key != member})
    for member, inner in shape.members.items():
        for bad, words in broken(inner, valid.get(member)):
            with pytest.raises(BadRequest) as caught:
                shapes.read(shape, {**valid, member: bad})
            path = member[:1].lower() + member[1:]
            assert f"at '{path}' failed to satisfy constraint: " in caught.value.message
            assert words in caught.value.message


def test_errors_are_worded_as_aws_words_them() -> None:
    shape = SAGEMAKER.input("CreateEndpointConfig")
    variant = {"VariantName": "a_b", "InstanceType": "ml.none", "InitialInstanceCount": 0}
    with pytest.raises(BadRequest) as caught:
        shapes.read(shape, {"ProductionVariants": [{"VariantName": "ok"}, variant]})
    count, _, rest = caught.value.message.partition(": ")
    first, second, *others = rest.split("; ")
    assert count == "4 validation errors detected"
    assert first == "Value null at 'endpointConfigName' failed to satisfy constraint: Member must not be null"
    assert second == (
        "Value 'a_b' at 'productionVariants.2.member.variantName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )
    for start in (
        "Value '0' at 'productionVariants.2.member.initialInstanceCount' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1",
        "Value 'ml.none' at 'productionVariants.2.member.instanceType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ml.",
    ):
        assert any(other.startswith(start) for other in others)


def test_lists_maps_and_secrets() -> None:
    shape = SAGEMAKER.input("CreateModel")
    subnets = {"SecurityGroupIds": ["no!"], "Subnets": ["s"]}
    with pytest.raises(BadRequest) as caught:
        shapes.read(shape, {"ModelName": "m", "VpcConfig": subnets, "PrimaryContainer": {"Environment": {"1-": "x"}}})
    assert "Value '[\"no!\"]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must satisfy" in (
        caught.value.message
    )
    assert "at 'primaryContainer.environment' failed to satisfy constraint: Map keys must satisfy constraint: [" in (
        caught.value.message
    )
    card = SAGEMAKER.input("CreateModelCard")
    with pytest.raises(BadRequest) as caught:
        shapes.read(card, {"ModelCardName": "c", "Content": "secret " * 20000, "ModelCardStatus": "Draft"})
    assert "secret" not in caught.value.message
    assert "Value at 'content' failed" in caught.value.message


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"EndpointName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"EndpointName": True}, "TRUE_VALUE can not be converted to a String"),
        ({"EndpointName": ["a"]}, "Start of list can not be converted to a String"),
        ({"EndpointName": "\ud800"}, "surrogate"),
        ({"DesiredWeightsAndCapacities": "x"}, "STRING_VALUE can not be converted to a List"),
        ({"DesiredWeightsAndCapacities": ["x"]}, "STRING_VALUE found where the structure"),
        ({"DesiredWeightsAndCapacities": [{"DesiredInstanceCount": "1"}]}, "to an Integer"),
        ({"DesiredWeightsAndCapacities": [{"DesiredInstanceCount": 1.5}]}, "1.5 can not be converted to an Integer"),
        ({"DesiredWeightsAndCapacities": [{"DesiredInstanceCount": 2**31}]}, "to an Integer"),
        ({"DesiredWeightsAndCapacities": [{"DesiredWeight": 10**400}]}, "out of range for a Float"),
    ],
)
def test_wrong_types_are_told_from_wrong_values(request_: dict[str, Any], words: str) -> None:
    shape = SAGEMAKER.input("UpdateEndpointWeightsAndCapacities")
    with pytest.raises(Unreadable) as caught:
        shapes.read(shape, request_)
    assert words in caught.value.message


def test_unknown_members_and_nulls_are_left_out() -> None:
    shape = SAGEMAKER.input("ListModels")
    assert shapes.read(shape, {"NameContains": None, "Unheard": {"of": 1}, "MaxResults": 5.0}) == {"MaxResults": 5}


def test_every_pattern_of_the_model_is_understood() -> None:
    every = {SAGEMAKER.model.shape_for(name).metadata.get("pattern") for name in SAGEMAKER.model.shape_names} - {None}
    assert len(every) > 200
    for pattern in every:
        patterns.compiled(pattern)


def test_java_reads_two_surrogates_as_one_character() -> None:
    pattern = r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*"
    assert patterns.Patience().matches(pattern, "plain \U0001F600\t")
    assert not patterns.Patience().matches(pattern, "\x01")


def test_java_classes_are_ascii_unless_unicode_is_named() -> None:
    assert not patterns.Patience().matches(r"[\w+=,.@-]*", "naïve")
    assert patterns.Patience().matches(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "naïve")


def test_a_pattern_that_never_ends_is_cut_off() -> None:
    assert not patterns.Patience().matches(r"(a|a)*(a|a)*(a|a)*b", "a" * 5000)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(SAGEMAKER.built)), st.dictionaries(st.text(), JSON, max_size=3), st.data())
def test_whatever_is_sent_is_read_or_refused(name: str, noise: dict[str, Any], data: st.DataObject) -> None:
    shape = SAGEMAKER.input(name)
    member = data.draw(st.sampled_from(sorted(shape.members)))
    request = {**noise, member: data.draw(JSON)}
    try:
        found = shapes.read(shape, request)
    except (BadRequest, Unreadable):
        return
    assert json.loads(json.dumps(found)) == found
    assert set(found) <= set(shape.members)
