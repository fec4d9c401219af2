"""What it costs a replica to ask who calls and whether they may: `python -m benchmarks.guard [--engine]`.

The guard around an application that answers nothing, in one process on one thread: with everything on, and with
nobody asked. Both take turns in rounds; the figures are CPU time of the best rounds, which other work on the machine
disturbed least. `requests/s` is thus the guard's own ceiling, beside which every model is slow: with a request of a
millisecond, 50 us more are 0.95.

`--engine` instead measures requests/s of a whole Hearth with a language model: everything on (callers asked, their
policies judged, every call in the audit log) beside everything off, in turns.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import structlog
import typer
from botocore.credentials import Credentials
from starlette.types import Message, Receive, Scope, Send

from benchmarks import guard_engine
from benchmarks.processes import exit_on_sigterm
from benchmarks.results import PAGE, circumstances, replace_section
from benchmarks.signing import Signer
from benchmarks.sigv4 import KEYS, bearer_token
from server.beat import Grant
from server.dialects.identity import Identity
from server.guard.gate import Gate
from server.guard.metrics import Metrics
from server.guard.middleware import Guard
from server.guard.rates import Rates
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.identity.keys import digest
from server.identity.names import access_key_id
from server.identity.sessions import Session, Sessions
from server.identity.snapshot import AccessKey, ApiKey, Holder, Snapshot
from server.spec import Limits

ROUNDS, CALLS = 15, 400
IDENTITY = Identity("m", "AllTraffic", "r")
ACCOUNT = IDENTITY.account
USER, CAREFUL = "AIDAPLAIN", "AIDACAREFUL"
SEALING = bytes(32)
BODY = json.dumps({"inputs": "x" * 1000}).encode()
HOST = "http://127.0.0.1:8080"


def document(condition: Mapping[str, Any] | None = None) -> str:
    statement = {"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**statement, **(condition or {})}]})


def gate() -> Gate:
    """Two users: one whose policy asks for nothing else, and one whose policy asks where a request comes from."""
    asks = document({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}})
    made = Gate(Authority(), Judge(), IDENTITY, required=True)
    made.authority.load(
        Snapshot(
            1,
            (("plain", document()), ("careful", asks)),
            tuple(
                Holder(id, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/{id}", id, (number,))
                for number, id in enumerate((USER, CAREFUL))
            ),
            (AccessKey(KEYS.access_key, KEYS.secret_key, USER),),
            (ApiKey("A", digest("hk-plain"), USER), ApiKey("B", digest("hk-careful"), CAREFUL)),
            SEALING.hex(),
        )
    )
    return made


def requests() -> dict[str, dict[str, str]]:
    """Headers by kind of credentials."""
    url = f"{HOST}/endpoints/m/invocations"
    sent = {"content-type": "application/json", "host": "127.0.0.1:8080", "user-agent": "Boto3/1.44"}
    now = time.time()
    session = Session(access_key_id("ASIA", ACCOUNT), "secret", ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s",
                      "AROA:s", USER, now, now + 3600)  # fmt: skip
    token = Sessions(SEALING).token(session)
    signer = Signer("us-east-1", KEYS.access_key, KEYS.secret_key)
    temporary = Signer("us-east-1", session.access_key, session.secret)
    temporary._auth.credentials = Credentials(session.access_key, session.secret, token)
    return {
        "API key": {**sent, "authorization": "Bearer hk-plain"},
        "API key, a condition": {**sent, "authorization": "Bearer hk-careful", "x-forwarded-for": "10.1.2.3"},
        "signature": signer.headers(url, BODY, sent),
        "session": temporary.headers(url, BODY, sent),
        "SageMaker's bearer token": {**sent, "authorization": f"Bearer {bearer_token()}"},
    }


async def nothing(_scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers nothing."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def seconds(guard: Guard, headers: Mapping[str, str]) -> float:
    """Of `CALLS` requests one after the other. Raises RuntimeError for one that is refused."""
    path = "/endpoints/m/invocations"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    statuses: list[int] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    began = time.process_time()
    for _ in range(CALLS):
        await guard(dict(scope), _body, send)
    taken = time.process_time() - began
    if set(statuses) != {200}:
        raise RuntimeError(f"answered {set(statuses)}")
    return taken


async def _body() -> Message:
    return {"type": "http.request", "body": BODY, "more_body": False}


def _open(metrics: Metrics, **more: Any) -> Guard:
    """A guard that asks nobody."""
    return Guard(nothing, IDENTITY, Limits(), metrics, opaque=True, **more)


def ample() -> Rates:
    """Rates with limits that nobody comes near."""
    rates = Rates()
    grant = Grant(1e9, 1e9).to_wire()
    rates.learn({"requests": grant, "tokens": grant})
    return rates


async def measure(say: Callable[[str], None]) -> None:
    metrics = Metrics(IDENTITY.endpoint, IDENTITY.variant)
    off = Guard(nothing, IDENTITY, Limits(), metrics, opaque=True)
    on = Guard(nothing, IDENTITY, Limits(), metrics, gate(), opaque=True)
    arms = [(name, on, headers) for name, headers in requests().items()]
    plain_headers = {"host": "replica", "content-type": "application/json"}
    arms += [
        ("a turn, the engine not full", _open(metrics, capacity=64), plain_headers),
        ("rates", _open(metrics, rates=ample()), plain_headers),
    ]
    say(f"{'':28} {'on, us':>8} {'off, us':>8} {'cost, us':>9} {'requests/s on':>14} {'off':>7}")
    for name, guard, headers in arms:
        rounds = [(await seconds(guard, headers), await seconds(off, headers)) for _ in range(ROUNDS)]
        asked, plain = (min(each) / CALLS * 1e6 for each in zip(*rounds, strict=True))
        say(f"{name:28} {asked:8.1f} {plain:8.1f} {asked - plain:9.1f} {1e6 / asked:14.0f} {1e6 / plain:7.0f}")


def main(
    engine: Annotated[bool, typer.Option(help="A whole Hearth with a language model, on and off.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="With --engine.")] = 7,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement, with --engine.")] = 5.0,
    write: Annotated[bool, typer.Option(help="Update results.md, with --engine.")] = True,
) -> None:
    """Measure what asking costs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not engine:
        asyncio.run(measure(print))
        return
    exit_on_sigterm()
    text = "\n".join([*circumstances(), "", *guard_engine.measure(rounds, seconds)])
    print(text)
    if write:
        replace_section(PAGE, "Guard: everything on beside everything off", text)


if __name__ == "__main__":
    typer.run(main)
