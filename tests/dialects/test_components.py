"""Which component or adapter a request is for, and what who names none is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from server.dialects.application import dialect_app
from server.dialects.components import chosen
from server.dialects.engine import Engines
from server.dialects.identity import Identity
from server.errors import BadRequest, NotReady
from server.spec import Limits
from tests.fixtures.fake_engines import LengthEmbedding, text_engines
from tests.fixtures.served import IDENTITY, guarded

BASE = Identity("ep", "AllTraffic", "r", component="base", adapters=("one", "two"))
PLAIN = Identity("ep", "AllTraffic", "r")


@pytest.mark.parametrize(
    ("header", "named", "whom"),
    [
        ("base", None, "base"),
        ("base", "base", "base"),
        ("base", "ep", "base"),
        ("base", "one", "one"),
        ("one", None, "one"),
        ("one", "ep", "one"),
        ("one", "one", "one"),
        ("", "two", "two"),
        ("", "base", "base"),
    ],
)
def test_whom_a_request_is_for(header: str, named: str | None, whom: str) -> None:
    assert chosen(BASE, header, named) == whom


@pytest.mark.parametrize(
    ("header", "named", "words"),
    [
        ("", None, "header is required"),
        ("", "ep", "header is required"),
        ("one", "two", "model is two, but the request is for inference component one"),
        ("base", "other", "model must be ep or base or one or two"),
        ("base", 5, "model must be"),
    ],
)
def test_what_names_nobody_is_refused(header: str, named: object, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        chosen(BASE, header, named)


def test_an_adapter_that_is_not_here_yet_may_come() -> None:
    with pytest.raises(NotReady, match="three is not loaded"):
        chosen(BASE, "three")


def test_an_endpoint_with_a_model_has_no_components() -> None:
    assert chosen(PLAIN, "", None) == chosen(PLAIN, "", "ep") == "ep"
    with pytest.raises(BadRequest, match="not allowed for endpoint ep"):
        chosen(PLAIN, "base")


async def test_an_engine_without_text_takes_no_inputs_for_an_adapter() -> None:
    identity = replace(IDENTITY, component="base", adapters=("one",))
    app = dialect_app(Engines(embedding=LengthEmbedding()), identity, Limits())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://r") as client:
        headers = {"X-Amzn-SageMaker-Inference-Component": "one"}
        path = f"/endpoints/{identity.endpoint}/invocations"
        answer = await client.post(path, json={"inputs": "a"}, headers=headers)
        assert (answer.status_code, answer.json()["OriginalStatusCode"]) == (424, 400)
        answer = await client.post(path, json={"inputs": "a"}, headers={**headers, **dict.fromkeys(headers, "base")})
        assert answer.json() == [[1.0, 1.0]]


async def test_an_adapter_reaches_the_engine_and_the_application() -> None:
    identity = replace(IDENTITY, component="base", adapters=("one",))
    engines = text_engines()
    asked: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        asked.append(json.loads((await receive())["body"])["model"])
        await JSONResponse({})(scope, receive, send)

    app = guarded(replace(engines, openai=application), identity=identity)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://r") as client:
        for address, header, model in (
            (f"/endpoints/{identity.endpoint}/openai", "one", None),
            (f"/endpoints/{identity.endpoint}/inference-components/one/openai", None, identity.endpoint),
            ("", None, "one"),
            (f"/endpoints/{identity.endpoint}/openai", "base", None),
        ):
            headers = {} if header is None else {"X-Amzn-SageMaker-Inference-Component": header}
            body = {"messages": [], **({} if model is None else {"model": model})}
            await client.post(f"{address}/v1/chat/completions", json=body, headers=headers)
    assert asked == ["one", "one", "one", "base"]
