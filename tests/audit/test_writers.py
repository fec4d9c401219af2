"""Writers that die, and writers side by side."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import Engine, text

from server.audit.keeper import Keeper
from server.audit.log import DROPPED, AuditLog
from server.audit.lookup import Wanted, newest
from server.audit.verify import verify
from server.errors import Unavailable
from server.store.store import connect
from tests.audit.writer import ACCOUNT, REGION, made

KILLS = 6


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(64)
    command = [sys.executable, "-m", "tests.audit.writer", str(bound.fileno()), str(folder)]
    process = subprocess.Popen(command, pass_fds=[bound.fileno()])
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    bound.close()
    return process, url


def client(url: str) -> Any:
    return boto3.client(
        "sagemaker", endpoint_url=url, region_name=REGION, aws_access_key_id="k", aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60, connect_timeout=5),
    )  # fmt: skip


def resources(engine: Engine, name: str) -> set[str]:
    found, _ = newest(engine, Wanted(attributes={"EventName": name}), 100_000)
    return {each.event["requestParameters"]["modelPackageGroupName"] for each in found if "errorCode" not in each.event}


def test_whatever_was_acknowledged_is_in_the_log_after_kill_9(tmp_path: Path, engine: Engine, keeper: Keeper) -> None:
    acknowledged: list[str] = []
    drawn = random.Random(7)
    for life in range(KILLS):
        process, url = start(tmp_path)
        try:
            client(url).list_models()  # it is up
            calls = [threading.Thread(target=_create, args=(url, f"life{life}-{n}", acknowledged)) for n in range(4)]
            for call in calls:
                call.start()
            before, wanted = len(acknowledged), drawn.randint(2, 30)
            _until(lambda before=before, wanted=wanted: len(acknowledged) >= before + wanted)  # type: ignore[misc]
            time.sleep(drawn.uniform(0.0, 0.02))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        for call in calls:
            call.join(70)
        assert verify(engine, keeper).problem is None
    assert set(acknowledged) <= resources(engine, "CreateModelPackageGroup")


def _create(url: str, name: str, acknowledged: list[str]) -> None:
    sagemaker = client(url)
    with contextlib.suppress(ClientError, BotoCoreError):
        for number in range(1000):
            sagemaker.create_model_package_group(ModelPackageGroupName=f"{name}-{number}")
            acknowledged.append(f"{name}-{number}")
    sagemaker.close()


def test_two_writers_make_one_chain(tmp_path: Path, engine: Engine, keeper: Keeper) -> None:
    other = connect(f"sqlite:///{tmp_path / 'hearth.db'}")
    logs = [AuditLog(engine, keeper), AuditLog(other, Keeper(tmp_path))]
    threads = [
        threading.Thread(target=lambda log=log, who=who: [log.commit(made(resource=f"w{who}-{n}")) for n in range(50)])
        for who, log in enumerate([*logs, *logs])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for log in logs:
        log.close()
    found = verify(engine, keeper)
    assert (found.problem, found.events) == (None, 200)
    other.dispose()


def test_waiting_events_are_written_within_a_second(engine: Engine, keeper: Keeper) -> None:
    log = AuditLog(engine, keeper, flush_s=0.3)
    assert log.record(made(resource="soon"))
    _until(lambda: verify(engine, keeper).events == 1)
    log.record(made(resource="at the end"))
    log.close()
    assert verify(engine, keeper).events == 2
    with pytest.raises(Unavailable):
        log.commit(made())


def test_what_is_dropped_is_counted_and_said(engine: Engine, keeper: Keeper) -> None:
    log = AuditLog(engine, keeper, flush_s=60, bound=10)
    kept = [log.record(made(resource=f"r{n}")) for n in range(25)]
    assert (kept.count(True), log.dropped) == (10, 15)
    log.close()
    (note,), _ = newest(engine, Wanted(attributes={"EventName": DROPPED}), 5)
    assert note.event["serviceEventDetails"] == {"count": 15}
    assert verify(engine, keeper).events == 11


def test_a_database_that_is_away_for_a_while(engine: Engine, keeper: Keeper) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_events RENAME TO away"))
    log = AuditLog(engine, keeper, flush_s=0.05)
    log.record(made(resource="first"))
    with pytest.raises(Unavailable):
        log.commit(made(resource="second"))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO audit_events"))
    _until(lambda: verify(engine, keeper).events == 2)
    log.close()
    assert verify(engine, keeper).problem is None


def test_an_event_that_the_database_does_not_take_stops_no_other(engine: Engine, keeper: Keeper) -> None:
    log = AuditLog(engine, keeper, flush_s=0.2)
    log.record(made(resource="good"))
    log.record({**made(), "eventTime": "no time"})
    log.record(made(resource="good too"))
    _until(lambda: verify(engine, keeper).events >= 2)
    log.close()
    assert (verify(engine, keeper).problem, log.dropped) == (None, 1)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_account_of_events(engine: Engine, keeper: Keeper) -> None:
    log = AuditLog(engine, keeper)
    log.commit(made())
    log.close()
    (event,), _ = newest(engine, Wanted(account=ACCOUNT), 5)
    assert event.username == "root"
    assert newest(engine, Wanted(account="000000000000"), 5) == ([], None)
