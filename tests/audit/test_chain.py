"""The log shows what was done to it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from server.audit.keeper import Keeper, KeyProblem
from server.audit.lookup import Wanted, newest
from server.audit.retention import REMOVED, remove_old
from server.audit.verify import Verdict, verify
from tests.audit.writer import ACCOUNT, REGION, made, write

COUNT = 30
COPY = "INSERT INTO audit_events SELECT {}, account, region, management, time, event_id, name, source, username, " \
       "access_key, read_only, event, digest FROM audit_events WHERE seq = {}"  # fmt: skip


@pytest.fixture
def written(engine: Engine, keeper: Keeper) -> Engine:
    for number in range(0, COUNT, 5):
        write(engine, keeper, [made(resource=f"thing-{number + each}") for each in range(5)])
    return engine


def sql(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_log_that_nobody_touched(written: Engine, keeper: Keeper) -> None:
    found = verify(written, keeper)
    assert found == Verdict(COUNT, 1, COUNT, found.digest)
    assert keeper.key_file.stat().st_mode & 0o777 == 0o600


def test_an_empty_log(engine: Engine, keeper: Keeper) -> None:
    assert verify(engine, keeper).problem is None


@pytest.mark.parametrize(
    ("statements", "bad"),
    [
        (["UPDATE audit_events SET event = replace(event, 'thing-9', 'thing-8') WHERE seq = 10"], 10),
        (["UPDATE audit_events SET event = event || ' ' WHERE seq = 10"], 10),
        (["UPDATE audit_events SET digest = replace(digest, '0', '1') WHERE seq = 10"], 10),
        *(([f"UPDATE audit_events SET {column} = 'other' WHERE seq = 10"], 10)
          for column in ("name", "source", "username", "access_key", "account", "region", "event_id")),
        (["UPDATE audit_events SET read_only = 1 WHERE seq = 10"], 10),
        (["UPDATE audit_events SET management = 0 WHERE seq = 10"], 10),
        (["UPDATE audit_events SET time = time - 1 WHERE seq = 10"], 10),
        (["UPDATE audit_resources SET name = 'other' WHERE seq = 10"], 10),
        (["DELETE FROM audit_resources WHERE seq = 10"], 10),
        (["INSERT INTO audit_resources SELECT seq, 1, account, region, time, 'x', arn, type FROM audit_resources "
          "WHERE seq = 10"], 10),
        (["DELETE FROM audit_events WHERE seq = 10"], 10),
        (["DELETE FROM audit_events WHERE seq = 1"], 1),
        (["DELETE FROM audit_events WHERE seq BETWEEN 5 AND 9"], 5),
        (["DELETE FROM audit_events WHERE seq = 10", "UPDATE audit_events SET seq = seq - 1 WHERE seq > 10"], 10),
        (["UPDATE audit_events SET seq = 1000 WHERE seq = 10", "UPDATE audit_events SET seq = 10 WHERE seq = 11",
          "UPDATE audit_events SET seq = 11 WHERE seq = 1000"], 10),
        (["UPDATE audit_events SET seq = seq + 1000 WHERE seq > 10", COPY.format(11, 3),
          "UPDATE audit_events SET seq = seq - 999 WHERE seq > 1000"], 11),
        ([COPY.format(0, 3)], 0),
        ([f"DELETE FROM audit_events WHERE seq > {COUNT - 2}"], COUNT - 1),
        ([f"DELETE FROM audit_events WHERE seq > {COUNT - 2}", f"UPDATE audit_marks SET seq = {COUNT - 2}, digest = "
          f"(SELECT digest FROM audit_events WHERE seq = {COUNT - 2}) WHERE name = 'head'"], COUNT - 2),
        (["UPDATE audit_marks SET seq = 3, digest = (SELECT digest FROM audit_events WHERE seq = 3) "
          "WHERE name = 'start'", "DELETE FROM audit_events WHERE seq <= 3"], 3),
        (["UPDATE audit_marks SET mac = (SELECT mac FROM audit_marks WHERE name = 'head') WHERE name = 'start'"], 0),
        (["DELETE FROM audit_marks WHERE name = 'head'"], 0),
        (["DELETE FROM audit_marks WHERE name = 'start'"], 0),
        (["DELETE FROM audit_marks"], 0),
        (["DELETE FROM audit_events"], 1),
        (["DELETE FROM audit_events", "DELETE FROM audit_marks"], 0),
    ],
)  # fmt: skip
def test_tampering_shows_where(written: Engine, keeper: Keeper, statements: list[str], bad: int) -> None:
    sql(written, *statements)
    found = verify(written, keeper)
    assert found.problem is not None
    assert found.bad == bad
    write(written, keeper, [made(resource="after")])  # a writer that goes on does not cover it up
    assert verify(written, keeper).problem is not None


def test_an_older_database_put_back_shows(tmp_path: Path, written: Engine, keeper: Keeper) -> None:
    files = (tmp_path / "hearth.db", tmp_path / "older.db")
    with closing(sqlite3.connect(files[0])) as now, closing(sqlite3.connect(files[1])) as older:
        now.backup(older)
    write(written, keeper, [made(resource="newer")])
    written.dispose()
    for left in ("-wal", "-shm"):
        (tmp_path / f"hearth.db{left}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "older.db", tmp_path / "hearth.db")
    found = verify(written, keeper)
    assert (found.bad, "put back" in str(found.problem)) == (COUNT + 1, True)
    write(written, keeper, [made(resource="later")])
    found = verify(written, keeper)
    assert found.bad is not None
    assert "changed in front of it" in str(found.problem) or found.bad == COUNT + 1


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_text("{}"), lambda file: file.write_text("[]")])
def test_the_mark_beside_the_database(written: Engine, keeper: Keeper, harm: Callable[[Path], None]) -> None:
    harm(keeper.head_file)
    assert verify(written, keeper).problem is not None
    write(written, keeper, [made()])
    assert verify(written, keeper).problem is not None


def test_another_key_verifies_nothing(written: Engine, keeper: Keeper) -> None:
    keeper.key_file.write_text("00" * 32)
    assert "signature" in str(verify(written, keeper).problem)
    keeper.key_file.unlink()
    with pytest.raises(KeyProblem, match=r"audit\.key is missing"):
        verify(written, keeper)


def test_retention_removes_whole_days_and_says_so(engine: Engine, keeper: Keeper) -> None:
    now = datetime.now(UTC)
    for days in (100, 91, 90, 5, 0):
        for each in range(3):
            event = made(resource=f"d{days}-{each}")
            event["eventTime"] = f"{now - timedelta(days=days):%Y-%m-%d}T00:00:0{each}Z"
            write(engine, keeper, [event])
    assert remove_old(engine, keeper, 90, ACCOUNT, REGION, now) == 6
    found = verify(engine, keeper)
    assert (found.problem, found.first, found.last) == (None, 7, 16)
    (note, *_), _ = newest(engine, Wanted(attributes={"EventName": REMOVED}), 5)
    assert note.event["serviceEventDetails"]["lastEvent"] == 6
    assert remove_old(engine, keeper, 90, ACCOUNT, REGION, now) == 0
    assert newest(engine, Wanted(attributes={"ResourceName": "d91-0"}), 5) == ([], None)
    assert remove_old(engine, keeper, 90, ACCOUNT, REGION, now + timedelta(days=200)) == 10
    assert verify(engine, keeper).problem is None


def test_retention_leaves_a_changed_log_alone(written: Engine, keeper: Keeper) -> None:
    sql(written, f"DELETE FROM audit_events WHERE seq = {COUNT}")
    assert remove_old(written, keeper, 1, ACCOUNT, REGION, datetime.now(UTC) + timedelta(days=9)) == 0


def hearth(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "audit", *words, "--state", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(tmp_path: Path, written: Engine, keeper: Keeper) -> None:
    good = hearth(tmp_path, "verify")
    assert (good.returncode, good.stdout[:21]) == (0, "30 events as written,")
    lines = hearth(tmp_path, "tail", "-n", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["29", "30"]
    (line,) = hearth(tmp_path, "find", "--user", "root", "--event", "CreateThing", "--resource", "thing-7",
                     "--since", "1h", "--json").stdout.splitlines()  # fmt: skip
    assert json.loads(line)["requestParameters"] == {"thingName": "thing-7"}
    assert hearth(tmp_path, "find", "--user", "nobody").stdout == ""
    sql(written, "DELETE FROM audit_events WHERE seq = 12")
    bad = hearth(tmp_path, "verify")
    assert bad.returncode == 1
    assert "event 12: missing" in bad.stderr


def test_tail_follows(tmp_path: Path, written: Engine, keeper: Keeper) -> None:
    command = [sys.executable, "-u", "-m", "server", "audit", "tail", "-f", "-n", "1", "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        try:
            assert "thing-29" in following.stdout.readline()
            write(written, keeper, [made(resource="came-later")])
            assert "came-later" in following.stdout.readline()
        finally:
            following.kill()


@pytest.mark.long
def test_a_hundred_thousand_events(engine: Engine, keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    def p50() -> float:
        times = []
        for number in range(51):
            attributes = {"ResourceName": f"thing-{number}"} if number % 2 else {"EventName": "CreateThing"}
            begun = time.perf_counter()
            newest(engine, Wanted(account=ACCOUNT, region=REGION, attributes=attributes), 50)
            times.append(time.perf_counter() - begun)
        return sorted(times)[25] * 1e3

    report, example = [], made()
    for size in (1_000, 99_000):
        begun = time.perf_counter()
        for batch in range(0, size, 1000):
            write(engine, keeper, [{**example, "eventID": f"{size}-{batch}-{n}", "resources": [
                {**example["resources"][0], "ARN": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:thing/thing-{n}"}
            ]} for n in range(1000)])  # fmt: skip
        report.append(f"{size} events: {(time.perf_counter() - begun) / size * 1e6:.0f} us each, lookup {p50():.2f} ms")
    begun = time.perf_counter()
    found = verify(engine, keeper)
    assert (found.problem, found.events) == (None, 100_000)
    with capsys.disabled():
        print(f"\n{'; '.join(report)}; verified in {time.perf_counter() - begun:.1f} s")
