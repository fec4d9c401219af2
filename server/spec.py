"""What an endpoint should be: the document that the store keeps and the controller makes true.

A `hearth.yaml` entry, `hearth deploy` and (through its resources) the control plane all end in an
`EndpointSpec`; `server.replicas.build` turns each of its variants into one Ray Serve application.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Task = Literal[
    "generate", "embed", "classify", "rerank", "image-classification", "object-detection", "predict", "handler",
    "external",
]
"""What a model is served for; it chooses the runtime (see `server.replicas.runtimes`)."""

ENGINE_TASKS: tuple[Task, ...] = ("generate", "embed", "classify", "rerank")
"""What vLLM runs."""

ModelCache = Literal["Enabled", "Disabled"]
"""SageMaker's ModelCacheSetting, for a prefix of many models: whether they stay loaded while there is room, or each
goes once it has answered."""

NAME_PATTERN = r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$"
"""SageMaker's own rule for endpoint and variant names."""

Name = Annotated[str, Field(pattern=NAME_PATTERN)]

MOST_CONTAINERS = 15
"""Containers of one model, as in SageMaker."""

MAX_BODY_BYTES = 6 * 1024 * 1024
"""SageMaker's limit for a real-time request body."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scaling(Frozen):
    """How many replicas there are. `min_replicas=0` lets the endpoint sleep when idle."""

    min_replicas: int = Field(1, ge=0, le=1000)
    max_replicas: int = Field(1, ge=1, le=1000)
    target_in_flight: float = Field(16.0, gt=0)
    """Requests in flight per replica that the autoscaler aims at."""
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(60.0, ge=0)
    idle_before_zero_s: float = Field(300.0, ge=0)
    """Seconds without a request before the last replica goes, when `min_replicas` is 0."""

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        return self


class Limits(Frozen):
    """Bounds on one replica's requests."""

    max_in_flight: int = Field(256, ge=1)
    """Requests in flight on one replica; one more is answered 429."""
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1)
    body_timeout_s: float = Field(30.0, gt=0)
    """Time a client has to finish sending a body."""
    queue_timeout_s: float = Field(60.0, gt=0)
    """Time a request waits for its turn while the engine is full; after that it is answered 429."""
    request_timeout_s: float = Field(600.0, gt=0)
    """Time one answer may take, streams included."""
    max_choices: int = Field(16, ge=1)
    """Bound on `n` / `best_of`."""
    max_batch: int = Field(256, ge=1)
    """Bound on the number of inputs in one request."""
    max_logprobs: int = Field(20, ge=0)
    max_json_depth: int = Field(64, ge=1)
    max_schema_bytes: int = Field(64 * 1024, ge=1)
    """Bound on a JSON schema, grammar, regular expression or choice list, as sent."""
    max_image_pixels: int = Field(40_000_000, ge=1)
    """Bound on width x height of one image, checked before it is decoded."""
    allowed_media_hosts: tuple[str, ...] = ()
    """Hosts that `image_url` and its like may name; none: only `data:` URLs are taken."""


RoutingStrategy = Literal["LEAST_OUTSTANDING_REQUESTS", "RANDOM", "PREFIX_AWARE"]
"""SageMaker's words for how a variant's requests are divided among its replicas."""


class Routing(Frozen):
    """Which replica of a variant takes a request."""

    strategy: RoutingStrategy = "LEAST_OUTSTANDING_REQUESTS"
    prefix_length: int = Field(1024, ge=1, le=65536)
    """Bytes at the prompt's beginning by which `PREFIX_AWARE` knows it again."""
    concurrency_threshold: int = Field(16, ge=1, le=1024)
    """Requests in flight on the replica that knows a prompt at which `PREFIX_AWARE` sends one to another."""


class Cache(Frozen):
    """Exact answers to deterministic requests that each replica of a variant keeps in memory."""

    ttl_s: float = Field(300.0, gt=0, le=30 * 86400)
    """Seconds after which an answer is computed anew."""
    max_entries: int = Field(10_000, ge=1)
    max_bytes: int = Field(64 * 1024 * 1024, ge=1)
    """Of all answers that one replica keeps."""
    max_entry_bytes: int = Field(1024 * 1024, ge=1)
    """Larger answers are not kept."""
    shared_by: Literal["account", "principal"] = "account"
    """Who gets an answer that was computed for another: the principals of an account, or nobody."""
    deterministic: bool = False
    """Whether a predictor, or a customer's code, answers the same request the same each time."""


class Resources(Frozen):
    """What Ray reserves for one replica."""

    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0.0, ge=0)
    memory_mb: int = Field(0, ge=0)
    """MiB; 0: whatever it takes."""


class ContainerSpec(Frozen):
    """One of the several containers of a model. What it says means what it means in a variant."""

    name: Name
    """Its host name."""
    model: str = Field(min_length=1)
    task: Task | None = None
    many: ModelCache | None = None
    engine: dict[str, JsonValue] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)


class VariantSpec(Frozen):
    """One production variant: a model, how it is run, its share of the traffic."""

    name: Name = "AllTraffic"
    model: str = ""
    """A shipped name, a local folder or `model.tar.gz`, or a Hugging Face id (`models.resolve`); nothing where there
    are `containers`."""
    containers: tuple[ContainerSpec, ...] = Field((), max_length=MOST_CONTAINERS)
    """What one replica runs in place of one `model`; `task`, `engine` and `env` are then each container's own."""
    hosts: bool = False
    """It has neither, and no replicas of its own: inference components are put on it."""
    component: str = ""
    """The inference component that this is; empty: a variant of its own. Its `name` is then the variant's it is on."""
    mode: Literal["Serial", "Direct"] = "Serial"
    """Each container answers what the one before it answered, or a request names the one that answers it."""
    task: Task | None = None
    """None: read from the model's own configuration when the replica is built."""
    many: ModelCache | None = None
    """`model` is a prefix or a folder, and each request names the model below it that answers
    (`server.replicas.many`). None: it is one model."""
    weight: float = Field(1.0, ge=0)
    engine: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of the runtime by their long names, e.g. ``{"max-model-len": 1024, "enforce-eager": true}``."""
    env: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Resources()
    scaling: Scaling = Scaling()
    limits: Limits = Limits()
    routing: Routing = Routing()
    cache: Cache | None = None
    """None: every answer is computed."""

    @model_validator(mode="after")
    def _one_or_several(self) -> VariantSpec:
        if [bool(self.model), bool(self.containers), self.hosts].count(True) != 1:
            raise ValueError("a variant has either a model or containers, or hosts inference components")
        if self.containers and (self.task is not None or self.many is not None or self.engine or self.env):
            raise ValueError("task, many, engine and env belong to each of the containers")
        if self.cache is not None and (self.many or any(container.many for container in self.containers)):
            raise ValueError("the response cache is for models that stay what they are, not for a prefix of many")
        names = [container.name for container in self.containers]
        if len(set(names)) != len(names):
            raise ValueError(f"container names must differ, got {', '.join(names)}")
        return self

    def alone(self, container: ContainerSpec) -> VariantSpec:
        """This variant as if `container` were its only model."""
        own = container.model_dump(exclude={"name"})
        return self.model_copy(update={**own, "containers": (), "mode": "Serial"})

    @property
    def revision(self) -> str:
        """Hash of what a running replica cannot change; a new revision means new replicas."""
        kept = self.model_dump(mode="json", exclude={"weight", "scaling", "routing"})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


class Strategy(Frozen):
    """How traffic goes over from the replicas that serve (blue) to those that replace them (green)."""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    """Green's part of the traffic after each step; rising, the last one is 1."""
    rolling: bool = False
    """Blue's replicas go as green's come, step by step; otherwise both fleets are there in full."""
    rollback_step: float = Field(1.0, gt=0, le=1)
    """Most that goes back to blue in one step of a rolling rollback."""
    bake_s: float = Field(0.0, ge=0)
    """Seconds in which alarms are watched after each step."""
    termination_wait_s: float = Field(0.0, ge=0)
    """Seconds that blue is kept after the last step."""
    timeout_s: float | None = Field(None, gt=0)
    """Seconds for all of it; None: only the start of green's replicas is bounded."""
    alarms: tuple[str, ...] = ()
    """CloudWatch alarms of the endpoint's region; one of them in ALARM brings all traffic back to blue."""

    @model_validator(mode="after")
    def _rises_to_one(self) -> Strategy:
        if not self.shares or self.shares[-1] != 1 or any(a >= b for a, b in pairwise(self.shares)):
            raise ValueError(f"shares must rise and end with 1, got {self.shares}")
        return self


class Rollout(Frozen):
    """What an endpoint is to become, and how; until that is done the endpoint's document says what it was."""

    spec: EndpointSpec
    strategy: Strategy = Strategy()
    asked_at: float
    """Seconds since 1970; tells one rollout of an endpoint from the next."""


class Capture(Frozen):
    """What of an endpoint's requests and answers is kept, and where."""

    enabled: bool = True
    sampling_percentage: int = Field(100, ge=0, le=100)
    """Of the requests."""
    destination: str = Field(pattern=r"^s3://[^/]+(/.*)?$", max_length=512)
    """Bucket and prefix, of the endpoint's own account."""
    kms_key: str = ""
    """That the files are encrypted under; empty: as the bucket has it."""
    input: bool = True
    output: bool = True
    csv_types: tuple[str, ...] = ()
    """Media types whose bodies are kept as text, as CSV; all that no such list names are kept as base64."""
    json_types: tuple[str, ...] = ()


class EndpointSpec(Frozen):
    """An endpoint: a name and the variants that share its traffic."""

    name: Name
    variants: tuple[VariantSpec, ...] = Field(min_length=1, max_length=10)
    shadows: tuple[VariantSpec, ...] = Field((), max_length=1)
    """Variants that no client reaches: of each request of the production variant a part, their `weight` over its own,
    is copied to them."""
    capture: Capture | None = None
    problem: str | None = None
    """Why it cannot be run as asked; the controller then starts nothing and reports Failed with these words."""
    sagemaker: dict[str, JsonValue] = Field(default_factory=dict)
    """What SageMaker's API shows of it and nothing here acts on, e.g. EndpointConfigName."""
    pending: Rollout | None = None
    """What takes this document's place when its rollout is through."""

    @model_validator(mode="after")
    def _distinct(self) -> EndpointSpec:
        names = [variant.name for variant in (*self.variants, *self.shadows)]
        if len(set(names)) != len(names):
            raise ValueError(f"variant names must differ, got {', '.join(names)}")
        if self.shadows and len(self.variants) > 1:
            raise ValueError(f"a shadow variant needs exactly one production variant, got {len(self.variants)}")
        if self.hosts and (self.shadows or not all(variant.hosts for variant in self.variants)):
            raise ValueError("either every variant of an endpoint hosts inference components, or none does")
        if sum(variant.weight for variant in self.variants) <= 0:
            raise ValueError("at least one variant needs a weight above 0")
        return self

    @property
    def fleet(self) -> tuple[VariantSpec, ...]:
        """All that has replicas: the variants that answer clients, and their shadows."""
        return tuple(variant for variant in (*self.variants, *self.shadows) if not variant.hosts)

    @property
    def hosts(self) -> bool:
        """Whether inference components are put on it."""
        return any(variant.hosts for variant in self.variants)
