"""What an external model's options say: which providers answer, how long they may take, what each caller may use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from server.dialects.documents import parse_value
from server.errors import BadRequest
from server.spec import Frozen

MODEL = "external"
"""The name of a model that providers answer for."""
IMAGE = "hearth/external"
PREFIX = "EXTERNAL_"
"""Of the variables that hold options of a model that was made by CreateModel."""
DEFAULT_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_SECRETS = ("key", "api_key", "api-key", "token", "password")
_DEPTH = 8


class Budget(Frozen):
    """Tokens, read and written, that one caller may use of an endpoint; None: any number."""

    tokens_per_day: int | None = Field(None, ge=0)
    tokens_per_month: int | None = Field(None, ge=0)


class ProviderOptions(Frozen):
    """One provider's model."""

    provider: Literal["openai", "anthropic", "bedrock"]
    """The API that it speaks; `openai`: any server that does."""
    model: str = Field(min_length=1, max_length=2048)
    """As the provider calls it."""
    url: str | None = None
    """None: the provider's own."""
    secret: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Name of the key, kept with `hearth secrets put`; of `bedrock` an access key, ID:SECRET."""
    region: str | None = Field(None, pattern=r"^[a-z0-9-]{1,32}$")
    """Of `bedrock`."""
    api: Literal["converse", "invoke"] = "converse"
    """How `bedrock` is asked for text; `invoke` is for Titan's text models."""

    @model_validator(mode="before")
    @classmethod
    def _without_keys(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (named := [name for name in _SECRETS if name in given]):
            raise ValueError(f"{named[0]} is not written down here: `hearth secrets put NAME`, and `secret: NAME`")
        return given

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must be http(s)://HOST[:PORT][/PATH]")
        if parts.query or parts.fragment:
            raise ValueError("must have neither a query nor a fragment")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.provider == "bedrock" and self.region is None:
            raise ValueError("bedrock needs a region")
        return self

    @property
    def address(self) -> str:
        """Where it is asked, without a slash at the end."""
        if self.url is not None:
            return self.url
        return DEFAULT_URLS.get(self.provider, f"https://bedrock-runtime.{self.region}.amazonaws.com")


class ExternalOptions(Frozen):
    providers: tuple[ProviderOptions, ...] = Field(min_length=1, max_length=8)
    """Asked in this order: the next one where one cannot answer."""
    serves: Literal["chat", "embeddings"] = "chat"
    connect_timeout_s: float = Field(5.0, gt=0, le=60)
    read_timeout_s: float = Field(60.0, gt=0, le=600)
    """Between two parts of an answer, and until its first."""
    retries: int = Field(2, ge=0, le=10)
    """Of one provider, after 429, 5xx and broken connections, before the answer has begun."""
    max_tokens: int = Field(4096, ge=1)
    """Of an answer whose request does not say how many."""
    budget: Budget = Budget()
    """Of each caller."""
    budgets: dict[str, Budget] = Field(default_factory=dict)
    """In place of `budget`, by a caller's ARN; of a role, the role's."""


def read(given: Mapping[str, Any]) -> ExternalOptions:
    """The options as a variant's `engine` has them; hyphens and underscores are one. Raises BadRequest."""
    try:
        return ExternalOptions.model_validate(_underscored(given, keep=("budgets",)))
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        raise BadRequest(f"external model: {name}: {problem['msg']}", field=f"engine.{name}") from None


def named(environ: Mapping[str, str]) -> dict[str, Any]:
    """Options as a container's environment has them: `EXTERNAL_PROVIDERS` and the like, lists and objects in JSON.
    Raises BadRequest."""
    found: dict[str, Any] = {}
    for key, text in environ.items():
        if key.startswith(PREFIX):
            value = parse_value(text.encode(), _DEPTH) if text[:1] in ("[", "{") else text
            found[key.removeprefix(PREFIX).lower()] = value
    read(found)
    return found


def _underscored(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """`value` with underscores for hyphens in its names, but for those inside of `keep`."""
    if isinstance(value, Mapping):
        named = {str(name).replace("-", "_"): inner for name, inner in value.items()}
        return {
            name: {each: _underscored(inner[each]) for each in inner}
            if name in keep and isinstance(inner, Mapping)
            else _underscored(inner)
            for name, inner in named.items()
        }
    if isinstance(value, list | tuple):
        return [_underscored(each) for each in value]
    return value
