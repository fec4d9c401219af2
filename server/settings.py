"""Settings: read once, from `hearth.yaml` and `HEARTH_*`, and passed on as one frozen value.

Order of precedence: command line, environment, file, default. The environment variable of a field is
``HEARTH_`` and its name in capitals, e.g. ``HEARTH_PORT``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from server.spec import MAX_BODY_BYTES, EndpointSpec, Frozen

DEFAULT_ACCOUNT = "123456789012"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


PATHS = ("state_dir", "objects_dir", "master_key_file", "tls_certificate", "tls_key", "tls_client_ca")
"""Settings that are made absolute."""


def part(base: Path, account: str, own: str) -> Path:
    """An account's part of one of Hearth's folders; all but the others' parts is its `own` account's."""
    return base if account in ("", own) else base / "accounts" / account


class SettingsError(Exception):
    """A setting that cannot be used; the text names file, line and field."""


class Settings(Frozen):
    """Everything that can be chosen about one Hearth."""

    host: str = "127.0.0.1"
    """Address the edge binds."""
    port: int = Field(8080, ge=1, le=65535)
    state_dir: Path = Path(".hearth")
    """Holds the database, logs, sockets and keys."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite in `state_dir`."""
    ray_address: str | None = None
    """Join this Ray cluster; None: start one of our own on this machine."""
    ray_cpus: int | None = Field(None, ge=1)
    """CPUs that our own Ray declares; None: four for each core, at least 16, so that endpoints may share cores."""
    replica_host: str = "127.0.0.1"
    """This machine's address for replicas; beyond loopback, each of them binds its own node's, as Ray knows it."""
    node_tls: bool | None = None
    """Edge, door, controller and replicas talk TLS among themselves; None: where `replica_host` is not loopback."""
    control_port: int | None = Field(None, ge=1, le=65535)
    """Port of the controller's own listener (beats, wake-ups); None: any free one."""
    objects_dir: Path | None = None
    """Folder of the object store; None: `objects` in `state_dir`."""
    objects_url: str | None = Field(None, pattern=r"^(aws|https?://[^/?#]+/?)$")
    """Another S3 that keeps the objects: its address, or `aws`; credentials as botocore finds them."""
    objects_host: str | None = Field(None, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    """Host name of this Hearth whose subdomains are buckets, as in `BUCKET.HOST`."""
    tls: bool = False
    """Answer HTTPS alone; implied by `tls_certificate`."""
    tls_certificate: Path | None = None
    """The certificate and its chain, in PEM; None: one that Hearth makes and signs itself."""
    tls_key: Path | None = None
    """The certificate's key, in PEM and without a password; None: it is in the same file."""
    tls_names: str | None = None
    """More host names and addresses for a certificate that Hearth makes, with commas between."""
    tls_client_ca: Path | None = None
    """Ask every client for a certificate that one of these authorities, in PEM, has signed."""
    encrypt: bool = True
    """Encrypt objects at rest even where neither their writer nor their bucket asks for it."""
    master_key_file: Path | None = None
    """The file of master keys that everything encrypted depends on; None: `keys/master.json` in `state_dir`."""
    wake_timeout_s: float = Field(120.0, gt=0)
    """How long a request waits for a sleeping endpoint."""
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1)
    """Largest body of a request whose endpoint is named in the body."""
    wake_queue: int = Field(1024, ge=1)
    """How many requests may wait for sleeping endpoints; one more is answered 429."""
    drain_timeout_s: float = Field(60.0, gt=0)
    """How long a stopping replica finishes what is in flight."""
    start_timeout_s: float = Field(1800.0, gt=0)
    """How long a new endpoint may take to become ready before it is marked Failed."""
    log_level: str = "info"
    auth: Literal["open", "required"] | None = None
    """Whether every request must say who sends it, and be allowed; None: where `api_key` is set."""
    api_key: str | None = Field(None, min_length=16, repr=False)
    """One API key of the account's root, sent as `Authorization: Bearer KEY`; others are made with `hearth keys`."""
    allow_anonymous: bool = False
    """Bind beyond loopback without asking who calls."""
    external_hosts: str | None = None
    """Hosts of providers that external models may call, with commas between; none: nothing external is called."""
    default_endpoint: str | None = None
    """Endpoint behind the container contract's bare `/invocations`."""
    prefork: bool = True
    """Start replicas and engines as forks of a process that has imported what they need; with a Ray of our own."""
    sampler: bool = True
    """Draw tokens with Hearth's kernels inside vLLM; false: vLLM's own sampler. A variant's `env` goes over it."""
    audit_data_share: float = Field(0.0, ge=0, le=1)
    """Share of the calls of models and objects that the audit log has; of control calls it has all."""
    audit_keep_days: int = Field(90, ge=1)
    """Whole days that the audit log is kept."""
    region: str = "us-east-1"
    account: str = Field(DEFAULT_ACCOUNT, pattern=r"^\d{12}$")
    reserve_instances: bool = False
    """Reserve for each replica what its `ml.*` instance type has on AWS, rather than one CPU and the cards here."""
    quota_endpoints: int | None = Field(None, ge=0)
    """Endpoints of an account that has no quota of its own; None, here and below: as many as it likes."""
    quota_instances: int | None = Field(None, ge=0)
    """Replicas that its endpoints together may come to have."""
    quota_requests_per_second: float | None = Field(None, ge=0)
    """Requests to its endpoints."""
    quota_tokens_per_minute: int | None = Field(None, ge=0)
    """Tokens that its endpoints read and write."""
    quota_storage_mb: float | None = Field(None, ge=0)
    """Megabytes (1,000,000 bytes) of its objects, and of the parts of uploads that are not complete."""
    endpoints: tuple[EndpointSpec, ...] = ()
    """Endpoints declared in the file; created or updated at every start."""

    @model_validator(mode="after")
    def _asks_for_its_key(self) -> Settings:
        if self.api_key is not None and self.auth == "open":
            raise ValueError("api_key is asked for only with auth: required")
        return self

    @model_validator(mode="after")
    def _certificate_of_its_own(self) -> Settings:
        if self.tls_key is not None and self.tls_certificate is None:
            raise ValueError("tls_key goes with tls_certificate")
        if self.tls_client_ca is not None and not self.secure:
            raise ValueError("tls_client_ca needs tls or tls_certificate")
        return self

    @field_validator("replica_host")
    @classmethod
    def _reachable(cls, value: str) -> str:
        if value in ("0.0.0.0", "::"):
            raise ValueError("must be the one address of this machine that its Ray nodes reach it at")
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be one of debug, info, warning, error")
        return value.lower()

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http{'s' if self.secure else ''}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether the edge answers HTTPS."""
        return self.tls or self.tls_certificate is not None

    @property
    def spreads(self) -> bool:
        """Whether replicas may be on other machines."""
        return self.replica_host not in LOOPBACK

    @property
    def nodes_secure(self) -> bool:
        """Whether the processes of this Hearth talk TLS among themselves."""
        return self.spreads if self.node_tls is None else self.node_tls

    @property
    def tls_dir(self) -> Path:
        """The edge's certificate, and the authority that signs one that is made."""
        return self.state_dir / "tls"

    @property
    def authenticates(self) -> bool:
        """Whether callers are asked who they are."""
        return self.auth == "required" or self.api_key is not None

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.state_dir / 'hearth.db'}"

    @property
    def objects(self) -> Path:
        """The object store's own folder."""
        return self.objects_dir or self.state_dir / "objects"

    @property
    def master_keys(self) -> Path:
        """The file of master keys."""
        return self.master_key_file or self.state_dir / "keys" / "master.json"

    @property
    def run_dir(self) -> Path:
        """Sockets, process records and rendered configuration of what runs now."""
        return self.state_dir / "run"

    @property
    def preforks(self) -> bool:
        """Whether a mother process is kept: elsewhere in a cluster there is none to ask."""
        return self.prefork and self.ray_address is None

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def cache_dir(self) -> Path:
        """Unpacked models and environments of their code. May be removed while nothing runs."""
        return self.state_dir / "cache"


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Settings:
    """Settings from `file`, then `environ` (default: the process's), then `overrides` that are not None.

    Raises SettingsError with file, line and field of what is wrong.
    """
    environ = environment() if environ is None else environ
    values, lines = _read_yaml(file) if file else ({}, {})
    for name in Settings.model_fields:
        if name != "endpoints" and (text := environ.get(f"HEARTH_{name.upper()}")) is not None:
            values[name] = text
            lines[(name,)] = f"HEARTH_{name.upper()}"
    if "ray_address" not in values and (address := environ.get("RAY_ADDRESS")):
        values["ray_address"] = address
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_describe(error, file, lines)) from None
    paths = {name: value for name in PATHS if (value := getattr(settings, name)) is not None}
    return settings.model_copy(update={name: path.expanduser().resolve() for name, path in paths.items()})


def environment() -> Mapping[str, str]:
    """The process's environment; this module alone reads it."""
    return os.environ


def switch(name: str) -> bool | None:
    """The environment's yes or no under `name` (1/0, true/false, on/off); None: not set. Raises SettingsError."""
    text = environment().get(name)
    if text is None:
        return None
    try:
        return TypeAdapter(bool).validate_python(text)
    except ValidationError:
        raise SettingsError(f"{name}: must be 1 or 0, not {text!r}") from None


def read_secret(path: Path) -> str:
    """The secret in `path`, made (mode 600) if it is not there yet."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        secret = secrets.token_hex(32)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secret)
        return secret


_Lines = dict[tuple[str | int, ...], str]


def _read_yaml(file: Path) -> tuple[dict[str, Any], _Lines]:
    """The file's document and, for each path in it, ``file:line``."""
    try:
        text = file.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {error}") from None
    if document is None:
        return {}, {}
    if not isinstance(document, dict):
        raise SettingsError(f"{file}:1: expected a mapping of settings at the top")
    lines: _Lines = {}
    _note_lines(node, (), file, lines)
    if isinstance(document.get("endpoints"), dict):
        document["endpoints"], lines = _endpoints_as_list(document["endpoints"], lines)
    return document, lines


def _note_lines(node: Any, path: tuple[str | int, ...], file: Path, lines: _Lines) -> None:
    lines[path] = f"{file}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _note_lines(value, (*path, str(key.value)), file, lines)
            lines[(*path, str(key.value))] = f"{file}:{key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), file, lines)


def _endpoints_as_list(endpoints: dict[str, Any], lines: _Lines) -> tuple[list[Any], _Lines]:
    """``{name: {model: ...}}`` becomes a list of endpoint documents, each with its variants."""
    listed: list[Any] = []
    moved = dict(lines)
    for index, (name, body) in enumerate(endpoints.items()):
        for path, line in lines.items():
            if path[:2] == ("endpoints", name):
                within = path[2:]
                where = within if within[:1] == ("variants",) else ("variants", 0, *within) if within else ()
                moved[("endpoints", index, *where)] = line
        if isinstance(body, dict) and "variants" not in body:
            listed.append({"name": name, "variants": [body]})
        else:
            listed.append({"name": name, **body} if isinstance(body, dict) else body)
    return listed, moved


def _describe(error: ValidationError, file: Path | None, lines: _Lines) -> str:
    problems = []
    for problem in error.errors():
        path = tuple(problem["loc"])
        where = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        shown = ".".join(str(part) for part in path) or "settings"
        problems.append(f"{where or file or 'command line'}: {shown}: {problem['msg']}")
    return "\n".join(problems)
