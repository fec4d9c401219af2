"""Which addresses answer, and in which dialect they fail: container contract, OpenAI, everything else."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import openai
import pytest

from server.dialects.application import dialect_app
from server.dialects.engine import Engines
from server.dialects.errors import openai_error, runtime_error
from server.errors import HearthError, ModelFailed, NotReady, PromptTooLong, Throttled, Unavailable
from server.spec import Limits
from tests.fixtures.fake_engines import OpenAIApp, text_engines
from tests.fixtures.served import IDENTITY, Served, guarded, serving


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(guarded(text_engines()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        yield client


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(guarded(text_engines())) as running:
        yield running


async def test_ping_tells_whether_the_engine_lives() -> None:
    for alive, status in ((True, 200), (False, 503)):
        app = dialect_app(text_engines(), IDENTITY, Limits(), lambda alive=alive: alive)  # type: ignore[misc]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://r") as client:
            assert (await client.get("/ping")).status_code == status
            assert (await client.post("/ping")).status_code == status


async def test_the_container_answers_plainly(http: httpx.AsyncClient) -> None:
    answer = await http.post("/invocations", json={"inputs": "a"})
    assert (answer.status_code, answer.json()) == (200, [{"generated_text": "a"}])
    for body, status in (
        ({"inputs": 1}, 400),
        ({"inputs": "BREAK"}, 500),
        ({"inputs": "a", "parameters": {"n": 0}}, 400),
    ):
        answer = await http.post("/invocations", json=body)
        assert answer.status_code == status
        assert set(answer.json()) >= {"error", "error_type"}
    assert (await http.post("/invocations", content=b"x", headers={"content-type": "text/csv"})).status_code == 415


async def test_the_container_streams_server_sent_events(http: httpx.AsyncClient) -> None:
    answer = await http.post("/invocations", json={"inputs": "a b", "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data:")) for line in answer.text.split("\n\n") if line]
    assert events[-1]["generated_text"] == "a b"


async def test_the_container_passes_the_applications_errors_on(http: httpx.AsyncClient) -> None:
    answer = await http.post("/invocations", json={"prompt": "bad"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "said bad")


@pytest.mark.parametrize(
    "path",
    ["/load", "/scale_elastic_ep", "/tokenize", "/v2/x", "/docs", "/openapi.json", "/version", "/health", "/score",
     "/endpoints/m", "/endpoints/m/other", "/endpoints/m/invocations/x", "//invocations", "/ping/"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_addresses_are_not_there(http: httpx.AsyncClient, path: str, method: str) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["x-amzn-errortype"] == "UnknownOperationException"


@pytest.mark.parametrize(
    "path", ["/v1/load", "/v1/embeddings", "/v1/loras", "/v1", "/v1/", "/v1/audio", "/v1/models/other"]
)
@pytest.mark.parametrize("prefix", ["", "/endpoints/m/openai"])
async def test_openai_routes_the_model_lacks(http: httpx.AsyncClient, path: str, prefix: str) -> None:
    answer = await http.post(prefix + path, content=b"{}", headers={"content-type": "application/json"})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_metrics_are_sagemakers(http: httpx.AsyncClient) -> None:
    await http.post("/invocations", json={"inputs": "a"})
    text = (await http.get("/metrics")).text
    assert 'Invocations_total{EndpointName="m",VariantName="AllTraffic"}' in text
    for name in ("Invocation4XXErrors", "Invocation5XXErrors", "ModelLatency", "OverheadLatency", "hearth_in_flight"):
        assert name in text


def test_the_openai_client_gets_answers(served: Served) -> None:
    for base in ("/v1", "/endpoints/m/openai/v1"):
        client = served.openai(base)
        assert client.models.list().data[0].id == "m"
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "hi"
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a b"}], stream=True)
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["a", "b"]


def test_models_are_listed_without_an_application() -> None:
    with serving(guarded(Engines())) as served:
        client = served.openai()
        assert [model.id for model in client.models.list()] == ["m"]
        assert client.models.retrieve("m").id == "m"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="m", messages=[])


def test_the_openai_client_raises_its_own_errors(served: Served) -> None:
    client = served.openai()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hi"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as many:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], n=10**6)
    assert many.value.param == "n"
    with pytest.raises(openai.InternalServerError) as crashed:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "crash"}])
    assert "secret" not in str(crashed.value)
    elsewhere = served.openai("/endpoints/nope/openai/v1")
    with pytest.raises(openai.NotFoundError):
        elsewhere.models.list()


async def test_a_mounted_application_sees_v1_only() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await OpenAIApp()(scope, receive, send)

    transport = httpx.ASGITransport(guarded(text_engines(openai=app)))
    async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
        await client.post("/endpoints/m/openai/v1/completions", json={"prompt": "x"})
        await client.post("/endpoints/m/invocations", json={"prompt": "x"})
    assert seen == ["/v1/completions", "/v1/completions"]


@pytest.mark.parametrize(
    ("error", "status", "code", "openai_status", "kind"),
    [
        (Throttled("x", retry_after=7), 429, "ThrottlingException", 429, "rate_limit_error"),
        (NotReady("x"), 429, "ModelNotReadyException", 503, "service_unavailable_error"),
        (Unavailable("x"), 503, "ServiceUnavailable", 503, "service_unavailable_error"),
        (ModelFailed("x"), 500, "InternalFailure", 500, "server_error"),
        (PromptTooLong("x"), 400, "ValidationError", 400, "invalid_request_error"),
        (HearthError("x"), 500, "InternalFailure", 500, "server_error"),
    ],
)
def test_errors_as_bytes(error: HearthError, status: int, code: str, openai_status: int, kind: str) -> None:
    runtime = runtime_error(error, "id-1")
    assert (runtime.status_code, runtime.headers["x-amzn-errortype"]) == (status, code)
    assert runtime.headers["x-amzn-requestid"] == "id-1"
    spoken = openai_error(error)
    assert (spoken.status_code, json.loads(bytes(spoken.body))["error"]["type"]) == (openai_status, kind)
    if error.retry_after is not None:
        assert runtime.headers["retry-after"] == spoken.headers["retry-after"] == str(error.retry_after)
