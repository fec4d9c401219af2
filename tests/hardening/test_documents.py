"""Documents whose reading costs more than their size: depth, values said many times, strings without an end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from server.control import shapes
from server.control.protocols.cbor import CBOR
from server.control.protocols.json import JSON
from server.control.protocols.query import QUERY, form
from server.control.protocols.wire import Wire
from server.control.services import SERVICES
from server.dialects.documents import deeper_than, parse_object
from server.errors import BadRequest, HearthError, Unreadable
from server.objects.errors import ObjectError
from server.objects.operations import MODEL
from server.objects.reading import read_document

BOUND_S = 3.0
SAGEMAKER = SERVICES["sagemaker"]
CLOUDWATCH = SERVICES["monitoring"]


def quick(work: Callable[[], object]) -> None:
    """`work` ends, or is refused as what the sender did wrong, in bounded time."""
    began = time.thread_time()
    status = 200
    try:
        work()
    except (HearthError, ObjectError) as error:
        status = error.status
    assert status < 500
    assert time.thread_time() - began < BOUND_S


UNENDING = [
    b"[" * 65 + b'"' + b'\\"' * 500_000,
    b"[" * 65 + b'"' * 1_000_001,
    b"[" * 65 + b'"\\' * 500_000,
    b'{"a":' * 300_000,
    b"[" * 1_000_000,
    b"[]" * 1_000_000,
    b"[" * 64 + b"[]" * 1_000_000,
    b'{"a":"' + b"\\u005b" * 300_000 + b'"}',
    b"\xff\xfe" + "[".encode("utf-16-le") * 200_000,
]


@pytest.mark.parametrize("body", UNENDING, ids=[str(body[60:70]) for body in UNENDING])
def test_depth_is_told_in_one_pass(body: bytes) -> None:
    quick(lambda: deeper_than(body, 64))
    quick(lambda: parse_object(body, 64))
    quick(lambda: JSON.parse(SAGEMAKER, "CreateModel", body))


def test_strings_hide_no_brackets_and_none_hides_behind_them() -> None:
    for text in ('"[[[["', '"\\"[[[["', '"\\\\"', '"a', '"a\\', '"a\\"'):
        assert not deeper_than(f"[{text}]".encode(), 2), text
        assert deeper_than(b"[" * 3 + f"{text}".encode() + b"]" * 3, 2) or not text.endswith('"')
    assert deeper_than(b'["\\\\",[[[]]]]', 3)


def test_a_shape_that_holds_itself() -> None:
    """SearchExpression's SubExpressions are SearchExpressions."""
    for depth in (20, 200, 3000):
        request: Any = {"Filters": [{"Name": "a"}]}
        text = '{"Resource":"Model","SearchExpression":' + '{"SubExpressions":[' * depth + json.dumps(request)
        body = (text + "]}" * depth + "}").encode()
        if depth == 20:
            shapes.read(SAGEMAKER.input("Search"), JSON.parse(SAGEMAKER, "Search", body))
        else:
            with pytest.raises(Unreadable):
                JSON.parse(SAGEMAKER, "Search", body)


def laughs(levels: int, width: int) -> bytes:
    """CBOR: a list of `width` times the list before it, which is said once and then referred to."""
    def head(major: int, number: int) -> bytes:
        return bytes((major << 5 | 24, number))

    value = head(6, 28) + head(4, 0)
    for level in range(levels):
        # Shareable values are numbered in the order in which they begin: the outermost is 0.
        inner = levels - level
        value = head(6, 28) + head(4, width) + value + (head(6, 29) + head(0, inner)) * (width - 1)
    return b"\xa1\x61a" + value


def test_a_value_said_many_times_over() -> None:
    small = cbor2.loads(laughs(3, 3))
    assert small == {"a": [[[[]] * 3] * 3] * 3}, "the bytes mean what they are meant to"
    with pytest.raises(Unreadable):
        CBOR.parse(CLOUDWATCH, "PutMetricData", laughs(4, 4))
    quick(lambda: CBOR.parse(CLOUDWATCH, "PutMetricData", laughs(30, 30)))


CBORS = {
    "in itself": b"\xa1\x61a\xd8\x1c\x82\xd8\x1d\x00\xd8\x1d\x00",
    "an endless list": b"\xa1\x61a\x9b" + b"\xff" * 8,
    "an endless text": b"\xa1\x61a\x7b\x7f" + b"\xff" * 7,
    "depth": b"\xa1\x61a" * 100_000,
    "open depth": b"\x9f" * 100_000,
    "bignum": b"\xa1\x61a\xc2\x5a\x00\x10\x00\x00" + b"\xff" * 2**20,
    "decimal": b"\xa1\x61a\xc4\x82\x1a\x7f\xff\xff\xff\x01",
    "big float": b"\xa1\x61a\xc5\x82\x1a\x7f\xff\xff\xff\x01",
    "rational over zero": b"\xa1\x61a\xd8\x1e\x82\x01\x00",
    "regular expression": b"\xa1\x61a" + cbor2.dumps(cbor2.CBORTag(35, "(a+)+$")),
    "not a number": b"\xa1\x61a" + cbor2.dumps(float("nan")),
    "a date beyond": b"\xa1\x61a" + cbor2.dumps(cbor2.CBORTag(1, 1e300)),
    "keys that are lists": b"\xa1\x82\x01\x02\x01",
    "a surrogate": b"\xa1\x61a\x63\xed\xa0\x80",
}


@pytest.mark.parametrize("body", CBORS.values(), ids=CBORS.keys())
def test_odd_cbor(body: bytes) -> None:
    def read() -> None:
        shapes.read(CLOUDWATCH.input("PutMetricData"), CBOR.parse(CLOUDWATCH, "PutMetricData", body))

    quick(read)


NUMBERS = ["1e400", "-1e400", "1" * 4000, "1" * 5000, "1e19", "0.5", "-0", "1e-400", "NaN", "Infinity", "true", '"1"']


@pytest.mark.parametrize("number", NUMBERS, ids=[text[:8] for text in NUMBERS])
def test_odd_numbers_are_the_senders_fault(number: str) -> None:
    for name, member in (("ListModels", "MaxResults"), ("ListModels", "CreationTimeAfter")):
        body = f'{{"{member}": {number}}}'.encode()
        quick(lambda body=body, name=name: shapes.read(SAGEMAKER.input(name), JSON.parse(SAGEMAKER, name,
                                                                                         body)))  # type: ignore[misc]
    for value in (float("inf"), float("nan"), 10**5000, -(10**400)):
        with pytest.raises(BadRequest):
            shapes.read(SAGEMAKER.input("ListModels"), {"MaxResults": value})


@pytest.mark.parametrize("wire", [JSON, QUERY, CBOR], ids=["json", "query", "cbor"])
@pytest.mark.parametrize("text", ["\0", "\ud800", "a\udfff", "\ufffe", "\U0010ffff", "\u202e", "\x1b[2J"])
def test_any_text_comes_back_in_an_answer_that_can_be_written(wire: Wire, text: str) -> None:
    """Names that no resource can have are in error messages."""
    from server.control.failures import failure

    error = BadRequest(f"Value '{text}' is not allowed", field=text)
    reply = wire.failure(CLOUDWATCH, failure(error, CLOUDWATCH, "PutMetricData"), "request-1")
    assert reply.status == 400
    assert b"is not allowed" in reply.body


FORMS = {
    "many fields": b"&".join(b"a%d=1" % n for n in range(20_000)),
    "deep names": b"Action=PutMetricData&" + b".".join([b"a"] * 100_000) + b"=1",
    "deep but short": b"&".join(b"a" + b".b" * n + b"=1" for n in range(100)),
    "huge numbers": b"MetricData.member." + b"9" * 100_000 + b".MetricName=a",
    "a value with members": b"MetricData=1&MetricData.member.1.MetricName=a",
    "surrogate": b"Namespace=%ED%A0%80&MetricData.member.1.MetricName=%00",
    "percent": b"Namespace=%&MetricData.member.1.MetricName=%zz",
    "a float": b"Namespace=a&MetricData.member.1.Value=1e999",
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
def test_odd_forms(body: bytes) -> None:
    def read() -> None:
        form(body)
        shapes.read(CLOUDWATCH.input("PutMetricData"), QUERY.parse(CLOUDWATCH, "PutMetricData", body))

    quick(read)


XMLS = {
    "entities": b'<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]><Delete>&y;</Delete>',
    "outside": b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><Delete/>',
    "other encoding": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><Delete/>'.encode("utf-16"),
    "said to be utf-7": b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a><Delete/>',
    "depth": b"<Delete>" * 200_000,
    "closed depth": b"<Delete>" * 100_000 + b"</Delete>" * 100_000,
    "attributes": b"<Delete " + b" ".join(b"a%d='1'" % n for n in range(100_000)) + b"/>",
    "namespaces": b"<Delete " + b" ".join(b"xmlns:a%d='u'" % n for n in range(50_000)) + b"/>",
}


@pytest.mark.parametrize("body", XMLS.values(), ids=XMLS.keys())
def test_odd_xml(body: bytes) -> None:
    with pytest.raises(ObjectError) as refused:
        read_document(MODEL.operation_model("DeleteObjects"), body)
    assert refused.value.code == "MalformedXML"
    quick(lambda: read_document(MODEL.operation_model("DeleteObjects"), body))


def test_a_message_names_only_so_many_problems() -> None:
    with pytest.raises(BadRequest) as refused:
        shapes.read(SAGEMAKER.input("AddTags"), {"ResourceArn": "arn", "Tags": [{}] * 50_000})
    assert len(refused.value.message) < 100_000
