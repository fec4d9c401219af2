"""`hearth audit`: verify the log, follow it, search it. Reads the database itself, so no Hearth need run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from server.audit.keeper import Keeper, KeyProblem
from server.audit.lookup import Found, Wanted, following, newest
from server.audit.verify import verify as walk
from server.cli.client import fail
from server.settings import Settings, SettingsError, load
from server.store.store import connect

app = typer.Typer(no_args_is_help=True, help="The audit log: who did what, and whether it is as it was written.")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hearth.yaml; default: the one in this folder.")]
State = Annotated[Path | None, typer.Option("--state", help="State directory (default .hearth).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print whole events, one JSON object a line.")]

LOOK_S = 0.5
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@app.command()
def verify(config: Config = None, state: State = None) -> None:
    """Walk the whole log; names the first event that is wrong and exits 1."""
    settings = _settings(config, state)
    console = Console(stderr=True)
    with _engine(settings) as engine, Progress(console=console, transient=True) as progress:
        task = progress.add_task("checking", total=None)
        try:
            verdict = walk(
                engine,
                Keeper(settings.state_dir),
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        except KeyProblem as error:
            raise fail(str(error)) from None
    if verdict.problem is not None:
        raise fail(f"event {verdict.bad}: {verdict.problem} ({verdict.events} events before it are as written)")
    print(f"{verdict.events} events as written, number {verdict.first} to {verdict.last}; head {verdict.digest}")


@app.command()
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1)] = 20,
    as_json: AsJson = False,
    config: Config = None,
    state: State = None,
) -> None:
    """Print the newest events."""
    wanted = Wanted(management=None)
    with _engine(_settings(config, state)) as engine:
        found, _ = newest(engine, wanted, lines)
        last = 0
        for event in sorted(found, key=lambda each: each.seq):
            _print(event, as_json)
            last = event.seq
        try:
            while follow:
                for event in following(engine, wanted, last):
                    _print(event, as_json)
                    last = event.seq
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            return


@app.command()
def find(
    user: Annotated[str | None, typer.Option(help="User or session name; root for the account itself.")] = None,
    event: Annotated[str | None, typer.Option(help="Such as CreateEndpoint.")] = None,
    resource: Annotated[str | None, typer.Option(help="A resource's name or ARN.")] = None,
    since: Annotated[str | None, typer.Option(help="A time (ISO 8601), or how long ago: 30m, 12h, 7d.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 1000,
    as_json: AsJson = False,
    config: Config = None,
    state: State = None,
) -> None:
    """Print events that match, the newest last."""
    given = {"Username": user, "EventName": event, "ResourceName": resource}
    wanted = Wanted(
        attributes={key: value for key, value in given.items() if value is not None},
        since=None if since is None else _moment(since),
        management=None,
    )
    with _engine(_settings(config, state)) as engine:
        found, more = newest(engine, wanted, limit)
    for each in reversed(found):
        _print(each, as_json)
    if more is not None:
        typer.echo(f"only the newest {limit} are shown; --limit shows more", err=True)


def _print(found: Found, as_json: bool) -> None:
    if as_json:
        print(found.text)
        return
    event = found.event
    names = ", ".join(each["ARN"] for each in event["resources"])
    code = event.get("errorCode")
    parts = [
        str(found.seq), event["eventTime"], found.username or "-", event["sourceIPAddress"],
        event["eventSource"].partition(".")[0], event["eventName"], code or "ok", names,
    ]  # fmt: skip
    if details := event.get("serviceEventDetails"):
        parts.append(json.dumps(details))
    print(" ".join(_printable(part) for part in parts if part))


def _printable(text: str) -> str:
    """Nothing that a client sent moves the terminal's cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _moment(text: str) -> int:
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return int((datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp())
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise fail(f"--since {text!r}: expected a time such as 2026-07-01T12:00, or 30m, 12h, 7d") from None
    return int((found if found.tzinfo else found.astimezone()).timestamp())


def _settings(config: Path | None, state: Path | None) -> Settings:
    default = Path("hearth.yaml")
    try:
        return load(config or (default if default.exists() else None), state_dir=state)
    except SettingsError as error:
        raise fail(str(error)) from None


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    if settings.database_url is None and not (settings.state_dir / "hearth.db").exists():
        raise fail(f"There is no database in {settings.state_dir}; name the state directory with --state.")
    engine = connect(settings.database)
    try:
        yield engine
    except DatabaseError as error:
        raise fail(f"The audit log cannot be read: {error.orig}") from None
    finally:
        engine.dispose()
