"""Clients of the endpoints that stay: each asks in its dialect, one request after another, and looks at the answer."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import boto3
import httpx
import openai
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError
from openai import OpenAI
from urllib3.exceptions import HTTPError as UrllibError

from benchmarks.crash.user import client as boto_client
from benchmarks.soak.fixed import EMBEDDING, LLM, SLEEPY, VISION, picture
from benchmarks.soak.verdict import Failure, Tally

PROMPT = "def add(a, b):\n"
TOKENS = 24
TIMEOUT_S = 180.0
"""Longer than a sleeping endpoint may take to wake."""
PNG, DIGIT = picture()
IMAGE = {"content-type": "image/png"}
WARM = frozenset(("edge", "replica", "engine", "raylet"))
COLD = WARM | {"door", "controller", "Serve's controller", "store", "gcs"}
DOOR = frozenset(("edge", "door", "store"))


class Unanswered(Exception):
    """No answer, or half of one; the text says what came instead."""


class Wrong(Exception):
    """An answer that is not right."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way to ask. `needs`: the parts of Hearth that a request passes; `pause_s`: mean time between requests."""

    name: str
    endpoint: str | None
    needs: frozenset[str]
    make: Callable[[str], Callable[[], None]]
    pause_s: float = 0.5


def _chat(url: str) -> Callable[[], None]:
    client = _openai(url)

    def ask() -> None:
        answer = client.chat.completions.create(
            model=LLM, messages=[{"role": "user", "content": PROMPT}], max_tokens=TOKENS, temperature=0
        )
        _right(answer.usage is not None and 0 < answer.usage.completion_tokens <= TOKENS, answer)

    return ask


def _chat_stream(url: str) -> Callable[[], None]:
    client = _openai(url)

    def ask() -> None:
        finish = None
        for chunk in client.chat.completions.create(
            model=LLM, messages=[{"role": "user", "content": PROMPT}], max_tokens=TOKENS, temperature=0.8, stream=True
        ):
            finish = chunk.choices[0].finish_reason or finish
        if finish is None:
            raise Unanswered("the stream ended early")

    return ask


def _leaves(url: str) -> Callable[[], None]:
    """A client that is gone after the first token of a long answer."""
    body = {"model": LLM, "prompt": PROMPT, "max_tokens": 1000, "stream": True, "ignore_eos": True}
    client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def ask() -> None:
        with client.stream("POST", "/v1/completions", json=body) as reply:
            succeeded(reply)
            if next(reply.iter_lines(), None) is None:
                raise Unanswered("the stream ended early")

    return ask


def _embeddings(url: str) -> Callable[[], None]:
    client = _openai(url)

    def ask() -> None:
        found = client.embeddings.create(model=EMBEDDING, input=["one", "two"])
        _right([len(each.embedding) for each in found.data] == [384, 384], found)

    return ask


def _invoke(url: str) -> Callable[[], None]:
    runtime = _runtime(url)
    body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": TOKENS}})

    def ask() -> None:
        reply = runtime.invoke_endpoint(EndpointName=LLM, ContentType="application/json", Body=body)
        said = json.loads(reply["Body"].read())
        _right(isinstance(said[0]["generated_text"], str), said)

    return ask


def _invoke_stream(url: str) -> Callable[[], None]:
    runtime = _runtime(url)
    body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": TOKENS}, "stream": True})

    def ask() -> None:
        reply = runtime.invoke_endpoint_with_response_stream(
            EndpointName=LLM, ContentType="application/json", Body=body
        )
        said = b"".join(event["PayloadPart"]["Bytes"] for event in reply["Body"])
        if b"generated_text" not in said:
            raise Unanswered("the stream ended early")

    return ask


def _picture(endpoint: str) -> Callable[[str], Callable[[], None]]:
    def make(url: str) -> Callable[[], None]:
        runtime = _runtime(url)

        def ask() -> None:
            reply = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="image/png", Body=PNG)
            _is_the_digit(json.loads(reply["Body"].read()))

        return ask

    return make


def _container(url: str) -> Callable[[], None]:
    client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def ask() -> None:
        _is_the_digit(succeeded(client.post("/invocations", content=PNG, headers=IMAGE)).json())

    return ask


def _objects(url: str) -> Callable[[], None]:
    """What was acknowledged is read back."""
    s3 = boto_client(url, "s3", retries={"max_attempts": 1})
    chance = random.Random("objects")
    kept: dict[str, bytes] = {}

    def ask() -> None:
        if not kept:
            s3.create_bucket(Bucket="soak")
        key, body = f"k{chance.randrange(20)}", chance.randbytes(20_000)
        old = kept.get(key)
        try:
            s3.put_object(Bucket="soak", Key=key, Body=body)
        except (ClientError, BotoCoreError):
            kept.pop(key, None)  # either of the two, until it is written again
            raise
        kept[key] = body
        other = chance.choice(sorted(kept))
        found = s3.get_object(Bucket="soak", Key=other)["Body"].read()
        _right(found == kept[other], f"{other} of {len(found)} bytes; before it {key} was {len(old or b'')}")

    return ask


DIALECTS = (
    Dialect("openai chat", LLM, WARM, _chat),
    Dialect("openai chat, streamed", LLM, WARM, _chat_stream),
    Dialect("openai completions, client leaves", LLM, WARM, _leaves),
    Dialect("openai embeddings", EMBEDDING, WARM, _embeddings),
    Dialect("sagemaker, text", LLM, WARM, _invoke),
    Dialect("sagemaker, text streamed", LLM, WARM, _invoke_stream),
    Dialect("sagemaker, picture", VISION, WARM, _picture(VISION), 0.1),
    Dialect("sagemaker, sleeping endpoint", SLEEPY, COLD, _picture(SLEEPY), 8.0),
    Dialect("container", VISION, WARM, _container, 0.1),
    Dialect("s3", None, DOOR, _objects),
)


class Traffic:
    """A thread for each dialect, while it is entered."""

    def __init__(self, url: str, tally: Tally) -> None:
        self._tally = tally
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(each, url), daemon=True) for each in DIALECTS]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)

    def _run(self, dialect: Dialect, url: str) -> None:
        chance, ask = random.Random(dialect.name), dialect.make(url)
        while not self._stop.wait(chance.expovariate(1 / dialect.pause_s)):
            began = time.monotonic()
            if (what := outcome(ask)) is None:
                self._tally.answered(dialect.name, time.monotonic() - began)
            else:
                about = dialect.name, dialect.endpoint, dialect.needs
                self._tally.failed(Failure(*about, str(what), not isinstance(what, Wrong), began, time.monotonic()))


def outcome(ask: Callable[[], None]) -> Unanswered | Wrong | None:
    """None for a right answer. A status that no outage excuses is a wrong one."""
    try:
        ask()
    except (Unanswered, Wrong) as found:
        return found
    except openai.APIStatusError as error:
        return _status(error.status_code, error.message)
    except EventStreamError as error:
        return Unanswered(f"event {error.response['Error']['Code']}")
    except ClientError as error:
        return _status(error.response["ResponseMetadata"]["HTTPStatusCode"], str(error))
    except (openai.APIError, BotoCoreError, httpx.HTTPError, UrllibError) as error:
        return Unanswered(type(error).__name__)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return Wrong(f"unreadable: {type(error).__name__}: {error}")
    return None


EXCUSABLE = frozenset((429, 502, 503, 504, 530))


def _status(status: int, message: str) -> Unanswered | Wrong:
    return Unanswered(str(status)) if status in EXCUSABLE else Wrong(f"{status} {message[:300]}")


def succeeded(reply: httpx.Response) -> httpx.Response:
    """`reply`, where it is one. Raises Unanswered or Wrong."""
    if reply.status_code != 200:
        reply.read()
        raise _status(reply.status_code, reply.text)
    return reply


def _is_the_digit(said: Any) -> None:
    found = said["predictions"][0] if isinstance(said, Mapping) else said[0]
    _right(str(found["label"]) == str(DIGIT), said)


def _right(holds: bool, said: object) -> None:
    if not holds:
        _wrong(said)


def _wrong(said: object) -> NoReturn:
    raise Wrong(f"answered {str(said)[:300]}")


def _openai(url: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=TIMEOUT_S)


def _runtime(url: str) -> Any:
    session = boto3.Session(region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
    config = Config(retries={"max_attempts": 0}, read_timeout=TIMEOUT_S)
    return session.client("sagemaker-runtime", endpoint_url=url, config=config)
