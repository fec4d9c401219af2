"""The `hearth` command."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from benchmarks.cli import bench
from server.cli import accounts, audit, callers, doctor, events_view, logs_view, secrets, shadow_view, status
from server.cli import keys as master_keys
from server.cli import quotas as quota_values
from server.cli import up as starting
from server.cli.client import Hearth, fail
from server.cli.container import settings_from_container
from server.edge.process import EdgeError
from server.edge.tls import TlsError
from server.errors import Unavailable
from server.settings import Settings, SettingsError, environment, load
from server.spec import Task
from server.supervisor.process import PidFile
from server.supervisor.ray_head import RayError
from server.supervisor.supervisor import AlreadyRunning

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hearth.yaml; default: the one in this folder.")]
Account = Annotated[str | None, typer.Option(help="Another account's number; default: the own one.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (default 8080).")]
State = Annotated[Path | None, typer.Option("--state", help="State directory (default .hearth).")]


def settings(config: Path | None, **overrides: Any) -> Settings:
    default = Path("hearth.yaml")
    try:
        return load(config or (default if default.exists() else None), **overrides)
    except SettingsError as error:
        raise fail(str(error)) from None


def connect(config: Path | None, host: str | None, port: int | None) -> Hearth:
    chosen = settings(config, host=host, port=port)
    return Hearth(chosen)


@app.command()
def up(config: Config = None, host: Host = None, port: Port = None, state: State = None) -> None:
    """Start Hearth in the foreground."""
    chosen = settings(config, host=host, port=port, state_dir=state)
    try:
        starting.up(chosen, console)
    except (starting.CannotStart, AlreadyRunning, RayError, TlsError, EdgeError, Unavailable) as error:
        raise fail(str(error)) from None


@app.command()
def serve() -> None:
    """Run as a SageMaker container: one model behind /ping and /invocations."""
    try:
        starting.up(settings_from_container(environment()), console)
    except (SettingsError, starting.CannotStart, AlreadyRunning, RayError, EdgeError, Unavailable) as error:
        raise fail(str(error)) from None


@app.command()
def down(config: Config = None, state: State = None) -> None:
    """Stop the Hearth that runs on this state directory."""
    chosen = settings(config, state_dir=state)
    owner = PidFile(chosen.run_dir / "hearth.pid").read()
    if owner is None:
        raise fail(f"No Hearth runs on {chosen.state_dir}.")
    os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while owner.alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    if owner.alive():
        raise fail(f"Process {owner.pid} did not stop within 60 s.")
    console.print("stopped")


@app.command(name="status")
def show_status(config: Config = None, host: Host = None, port: Port = None) -> None:
    """Show endpoints, replicas, requests in flight and tokens/s."""
    status.show(connect(config, host, port), console)


@app.command()
def deploy(
    name: str,
    model: Annotated[str, typer.Option(help="A shipped model's name, a folder, a model.tar.gz, or a Hugging Face id.")],
    task: Annotated[Task | None, typer.Option(help="What to serve it for; default: what its files say.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="Option of the runtime, e.g. max-model-len=4096.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="Environment variable of the replicas, NAME=VALUE.")] = None,
    min_replicas: int = 1,
    max_replicas: int | None = None,
    target_in_flight: float = 16.0,
    cpus: float = 1.0,
    gpus: float = 0.0,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    config: Config = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Create an endpoint, or update one."""
    local = Path(model).expanduser()
    variant = {
        "model": str(local.resolve()) if local.exists() else model,
        "task": task,
        "engine": {key: _value(text) for key, text in map(_pair, engine or [])},
        "env": dict(map(_pair, env or [])),
        "resources": {"num_cpus": cpus, "num_gpus": gpus},
        "scaling": {
            "min_replicas": min_replicas,
            "max_replicas": max_replicas or max(1, min_replicas),
            "target_in_flight": target_in_flight,
        },
    }
    hearth = connect(config, host, port)
    hearth.call("PUT", f"/hearth/endpoints/{name}", variant)
    if wait:
        _wait(hearth, name)


@app.command()
def shadow(
    name: str,
    whole: Annotated[bool, typer.Option("--json", help="As the server tells it.")] = False,
    config: Config = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Show how an endpoint's shadow variants answer, beside its production variant."""
    shadow_view.show(connect(config, host, port), name, whole, console)


@app.command()
def delete(name: str, config: Config = None, host: Host = None, port: Port = None) -> None:
    """Delete an endpoint."""
    connect(config, host, port).call("DELETE", f"/hearth/endpoints/{name}")
    console.print(f"{name}: Deleting")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="edge, door, controller, prefork, or an endpoint's name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n")] = 50,
    config: Config = None,
    state: State = None,
) -> None:
    """Show a component's or an endpoint's log."""
    logs_view.show(settings(config, state_dir=state), name, lines, follow, console)


@app.command()
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=1000)] = 20,
    whole: Annotated[bool, typer.Option("--json", help="One event a line, as EventBridge has it.")] = False,
    config: Config = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Show what changed: models, packages, configurations, endpoints."""
    events_view.show(connect(config, host, port), lines, follow, whole, console)


app.command()(bench)
app.add_typer(accounts.app, name="accounts")
app.add_typer(audit.app, name="audit")
app.add_typer(secrets.app, name="secrets")

keys = typer.Typer(no_args_is_help=True, help="API keys, and the master keys under which everything encrypted is.")
app.add_typer(keys, name="keys")


@keys.command(name="rotate")
def rotate_keys(config: Config = None, state: State = None) -> None:
    """Add a master key, and seal every stored key by it."""
    master_keys.rotate(settings(config, state_dir=state), console)


@keys.command(name="show")
def show_keys(config: Config = None, state: State = None) -> None:
    """Show the master keys' ids, and how many keys each seals."""
    master_keys.show(settings(config, state_dir=state), console)


@keys.command(name="create")
def create_key(
    user: Annotated[str, typer.Option(help="Whose: a user's name, or root.")] = callers.ROOT,
    days: Annotated[int | None, typer.Option(min=1, help="It ends after so many days.")] = None,
    description: str = "",
    config: Config = None,
    state: State = None,
    account: Account = None,
) -> None:
    """Make an API key, for `Authorization: Bearer`; it is shown this once."""
    callers.create_key(settings(config, state_dir=state), user, days, description, console, account)


@keys.command(name="list")
def list_keys(config: Config = None, state: State = None, account: Account = None) -> None:
    """Show access keys and API keys, without their secrets."""
    callers.list_keys(settings(config, state_dir=state), console, account)


@keys.command(name="revoke")
def revoke_key(id: str, config: Config = None, state: State = None, account: Account = None) -> None:
    """End an access key or an API key for good."""
    callers.revoke_key(settings(config, state_dir=state), id, console, account)


users = typer.Typer(no_args_is_help=True, help="Users; roles and policies are made with IAM's API.")
app.add_typer(users, name="users")


@users.command(name="create")
def create_user(
    name: str,
    policy: Annotated[list[str] | None, typer.Option(help="ARN of a managed policy to attach.")] = None,
    config: Config = None,
    state: State = None,
    account: Account = None,
) -> None:
    """Make a user and an access key, which is shown this once."""
    callers.create_user(settings(config, state_dir=state), name, policy or [], console, account)


@users.command(name="list")
def list_users(config: Config = None, state: State = None, account: Account = None) -> None:
    """Show users."""
    callers.list_users(settings(config, state_dir=state), console, account)


quotas = typer.Typer(no_args_is_help=True, help="What accounts may have, and what they ask for.")
app.add_typer(quotas, name="quotas")


@quotas.command(name="list")
def list_quotas(account: Account = None, config: Config = None, state: State = None) -> None:
    """Show the quotas of an account, or of all that have some of their own."""
    quota_values.show(settings(config, state_dir=state), account, console)


@quotas.command(name="set")
def set_quota(
    code: Annotated[str, typer.Argument(help="As `hearth quotas list` shows it.")],
    value: Annotated[str, typer.Argument(help="A number, `unlimited`, or `default`: what the settings say.")],
    account: Account = None,
    config: Config = None,
    state: State = None,
) -> None:
    """Give an account a quota of its own."""
    quota_values.put(settings(config, state_dir=state), code, value, account, console)


@quotas.command(name="requests")
def list_requests(config: Config = None, state: State = None) -> None:
    """Show what accounts asked for, and what became of it."""
    quota_values.show_requests(settings(config, state_dir=state), console)


@quotas.command(name="approve")
def approve_request(id: str, config: Config = None, state: State = None) -> None:
    """Grant a request."""
    quota_values.decide(settings(config, state_dir=state), id, grant=True, console=console)


@quotas.command(name="deny")
def deny_request(id: str, config: Config = None, state: State = None) -> None:
    """Refuse a request."""
    quota_values.decide(settings(config, state_dir=state), id, grant=False, console=console)


@app.command(name="doctor")
def check(config: Config = None) -> None:
    """Check this machine for what Hearth needs."""
    if not doctor.report(settings(config), console):
        raise typer.Exit(1)


def _wait(hearth: Hearth, name: str) -> None:
    with console.status(f"{name}: Creating") as line:
        while True:
            found = hearth.call("GET", f"/hearth/endpoints/{name}")
            if found["status"] == "Failed":
                raise fail(f"{name}: Failed: {found['reason']}")
            if found["status"] == "InService":
                break
            replicas = hearth.call("GET", "/hearth/state")["replicas"]
            details = [r["detail"] for r in replicas if r["endpoint"] == name and r["detail"]]
            line.update(f"{name}: {found['status']} {'; '.join(details)}")
            time.sleep(0.5)
    console.print(f"{name}: InService at {hearth.url}/endpoints/{name}/invocations")


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise fail(f"{text!r}: expected NAME=VALUE")
    return key, value


def _value(text: str) -> object:
    """YAML's reading of an engine option: numbers, true/false and JSON keep their type."""
    return yaml.safe_load(text)
