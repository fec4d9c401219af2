"""`python -m benchmarks.control`: the control plane's calls per second, and how they change with what there is.

A real door on a real database is called by real boto3, one call after another. At each number of models the
times of create, describe and list are measured; describe and list must not get slower as the number grows.
SQLite in a temporary folder by default; `--database URL` takes an empty PostgreSQL database.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import boto3
import typer
import uvicorn
from botocore.config import Config
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.applications import Starlette

from benchmarks.results import PAGE, circumstances, replace_section
from server.control.instances import Machine
from server.door.aws import AwsApi
from server.store.migrate import migrate
from server.store.store import Store, connect
from server.store.tables import ResourceRow

STEPS = (10, 100, 1000, 3000, 10_000)
CONTAINER = {"Image": "djl-inference", "Environment": {"HF_MODEL_ID": "org/name"}}
PAGE_SIZE = 100


def main(
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL of an empty database; else SQLite.")] = None,
    calls: Annotated[int, typer.Option(min=10, help="Measured calls of each kind at each step.")] = 200,
    most: Annotated[int, typer.Option(min=10, help="Number of models to go up to.")] = STEPS[-1],
    write: Annotated[bool, typer.Option(help="Update results.md.")] = True,
) -> None:
    """Measure create, describe and list as the number of models grows."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(database or f"sqlite:///{folder}/hearth.db")
        migrate(engine)
        store = Store(engine, "123456789012", "us-east-1")
        lines = [
            *circumstances()[:2],
            f"- command: `python -m benchmarks.control{' --database URL' if database else ''}`",
            f"- {engine.dialect.name}; {calls} calls of each kind, one client, one after another; p50 ms (calls/s)",
            "",
            "| models | create | describe | list 100 | list 100 by name | page 2 |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        with serving(store) as address:
            for number in (step for step in STEPS if step <= most):
                lines.append(row(store, client(address), number, calls))
                print(lines[-1], flush=True)
        engine.dispose()
    print("\n".join(lines))
    if write:
        replace_section(PAGE, f"Control plane on {engine.dialect.name}", "\n".join(lines))


def row(store: Store, sagemaker: Any, number: int, calls: int) -> str:
    """Fills the store up to `number` models, measures, and takes what it made away again."""
    fill(store.engine, store, number)
    names = [f"filled-{random.randrange(number):06}" for _ in range(calls)]
    made: list[str] = []

    def create() -> None:
        made.append(f"new-{number}-{len(made)}")
        sagemaker.create_model(ModelName=made[-1], PrimaryContainer=CONTAINER)

    token = sagemaker.list_models(MaxResults=min(PAGE_SIZE, max(1, number // 2)))["NextToken"]
    figures = (
        measured(calls, create),
        measured(calls, lambda: sagemaker.describe_model(ModelName=names.pop())),
        measured(calls, lambda: sagemaker.list_models(MaxResults=PAGE_SIZE)),
        measured(calls, lambda: sagemaker.list_models(MaxResults=PAGE_SIZE, SortBy="Name")),
        measured(calls, lambda: sagemaker.list_models(MaxResults=PAGE_SIZE, NextToken=token)),
    )
    for name in made:
        sagemaker.delete_model(ModelName=name)
    return f"| {number} | " + " | ".join(f"{p50 * 1e3:.2f} ({rate:.0f})" for p50, rate in figures) + " |"


def measured(calls: int, call: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of a call, and calls per second."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times), calls / sum(times)


def fill(engine: Engine, store: Store, number: int) -> None:
    """Brings the number of models up to `number`, past the API, which would take minutes."""
    present = len(store.find("Model"))
    for start in range(present, number, 1000):
        with Session(engine) as session, session.begin():
            now = datetime.now(UTC)
            session.add_all(
                ResourceRow(
                    account=store.account, region=store.region, kind="Model", name=f"filled-{index:06}",
                    arn=store.arn("Model", f"filled-{index:06}"), document={"PrimaryContainer": CONTAINER},
                    generation=1, observed=0, counter=0, status="Active", created_at=now, modified_at=now,
                )
                for index in range(start, min(start + 1000, number))
            )  # fmt: skip


@contextmanager
def serving(store: Store) -> Iterator[str]:
    """The control plane on a free port."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP by name
    bound.bind(("127.0.0.1", 0))
    app = Starlette(routes=AwsApi(store, Machine()).routes())
    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def client(address: str) -> Any:
    return boto3.client(
        "sagemaker", endpoint_url=address, region_name="us-east-1", aws_access_key_id="any",
        aws_secret_access_key="any", config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
